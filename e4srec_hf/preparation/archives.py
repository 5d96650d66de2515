"""Which files an archive or a workbook stands for."""

import tarfile
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path, PurePosixPath

from .content import check_unfolded, copy_here, open_content, open_tar, open_zip
from .errors import PreparationError
from .files import Member, as_member, explained, public_name
from .source import Log
from .workbooks import sheets_of

#: Names of members that are no data.
DOCUMENTS = ("readme*", "license*", "licence*", "changes*", "*.md", "*.rst", "*.html", "*.htm", "*.pdf", "*.sh", "*.py")
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
COMPRESSED = (".gz", ".bz2", ".xz")
#: First bytes of zip archives, the second one of an empty archive, and of older workbooks.
ZIP, OLD_WORKBOOK = (b"PK\x03\x04", b"PK\x05\x06"), b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Names listed in a message.
LISTED = 20


def expand(path: str, wanted: Log, other: Log, work: Path) -> list[str]:
    """The files that a path stands for: a member of an archive, the sheets of a workbook, or the file itself.

    Args:
        path: A file, or a member, whose name may be a pattern with ``*``.
        wanted: What the file should be.
        other: What the other file of the source is, which is not meant.
        work: Folder for a copy of a workbook.

    Raises:
        PreparationError: If an archive has no such member, or several that may be meant.
    """
    with explained(path):
        if member := as_member(path):
            names = _names(member.kind, member.container, work)
            chosen = [member.name] if member.name in names else [n for n in names if fnmatchcase(n, member.name)]
            if not chosen:
                raise PreparationError(
                    f"{public_name(member.container)} has no member {member.name!r}; it has {_listed(names)}."
                )
        elif kind := _kind(path, work):
            names = _names(kind, path, work)
            member = Member(kind, "", path)
            chosen = names if kind == "xlsx" else [_choose(names, wanted, other, member)]
        else:
            return [path]
        files = [str(member._replace(name=name)) for name in chosen]
        if member.kind == "xlsx":
            return files
        return [
            str(Member("xlsx", sheet, file)) if sheet else file
            for file in files
            for sheet in (_names("xlsx", file, work) if _kind(file, work) == "xlsx" else [""])
        ]


def _kind(path: str, work: Path) -> str | None:
    """Whether a file is an archive or a workbook: ``zip``, ``tar``, ``xlsx`` or ``None``."""
    with open_content(path, work) as content:
        start = content.start
    if start.startswith(OLD_WORKBOOK):
        return "xlsx"
    if start.startswith(ZIP):
        is_workbook = PurePosixPath((as_member(path) or Member("", path, "")).name).suffix.casefold() in WORKBOOKS
        return "xlsx" if is_workbook or "xl/workbook.xml" in _names("zip", path, work) else "zip"
    try:
        tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return "tar"


def _names(kind: str, path: str, work: Path) -> list[str]:
    """Names of the members of an archive or of the sheets of a workbook, in their order."""
    if kind == "xlsx":
        workbook = work / "workbook"
        copy_here(path, workbook, work)
        if zipfile.is_zipfile(workbook):
            with zipfile.ZipFile(workbook) as parts:
                size = sum(info.file_size for info in parts.infolist())
            check_unfolded(size, workbook.stat().st_size, public_name(path))
        return sheets_of(workbook, path)
    if kind == "zip":
        with open_zip(path) as (archive, _):
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    with open_tar(path, work) as (tar, _):
        return [info.name for info in tar if info.isreg()]


def _choose(names: Sequence[str], wanted: Log, other: Log, archive: Member) -> str:
    """The member of an archive that has the name of the file of the source, or the only one that is no document."""
    data = [
        name
        for name in names
        if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
        and not _is_named(name, (*DOCUMENTS, *other.files))
    ]
    chosen = [name for name in data if _is_named(name, wanted.files)] or data
    if len(chosen) == 1:
        return chosen[0]
    archive = archive._replace(name=chosen[0] if chosen else "member", container=public_name(archive.container))
    found = f"several files that may be meant: {_listed(chosen)}" if chosen else f"no data: {_listed(names)}"
    raise PreparationError(f"{archive.container} has {found}. Name one, such as {str(archive)!r}.")


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    last = PurePosixPath(name).name.casefold()
    for suffix in COMPRESSED:
        last = last.removesuffix(suffix)
    return any(fnmatch(last, pattern.casefold()) for pattern in patterns)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return (", ".join(map(repr, names[:LISTED])) or "nothing") + more
