"""Names of raw files: find them, split them, show them, and say why one cannot be read."""

import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit, urlunsplit

from fsspec.core import url_to_fs

from .errors import PreparationError

#: Errors raised by a corrupt or truncated compressed file or archive.
CORRUPTION = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
#: Errors raised while reading a file.
READING_ERRORS = (*CORRUPTION, OSError, UnicodeError, NotImplementedError)
#: Files that hold others; ``zip://member::archive`` names one of them.
CONTAINERS = ("zip", "tar", "xlsx")


class Member(NamedTuple):
    """A file in an archive, or a sheet of a workbook."""

    kind: str
    name: str
    container: str

    def __str__(self) -> str:
        return f"{self.kind}://{self.name}::{self.container}"


def as_member(path: str) -> Member | None:
    """Split ``zip://member::archive``; ``None`` if the path names no member."""
    kind, _, rest = path.partition("://")
    name, separator, container = rest.partition("::")
    return Member(kind, name, container) if kind in CONTAINERS and separator else None


def find_files(paths: Sequence[str]) -> list[str]:
    """Resolve paths and patterns: a pattern with ``*`` gives all matching files, sorted.

    Members of archives are not looked up, only the archives.

    Raises:
        PreparationError: If a file does not exist, cannot be reached, is no regular file or is given twice.
    """
    found: list[str] = []
    for path in paths:
        with explained(path):
            member = as_member(path)
            if member is None:
                found += _find(path)
            else:
                found += [str(member._replace(container=file)) for file in find_files([member.container])]
    if len(set(found)) < len(found):
        raise PreparationError("A file is given twice: its interactions would count twice.")
    return found


def _find(path: str) -> list[str]:
    system, name = _open_system(path)
    try:
        _check_kind(system.info(name), path)
    except FileNotFoundError as error:
        matches = [match for match in sorted(system.glob(name)) if not system.isdir(match)] if "*" in path else []
        if not matches:
            raise PreparationError(_why_missing(path, error)) from error
        for match in matches:
            _check_kind(system.info(match), match)
        return [cast(str, system.unstrip_protocol(match)) if "://" in path else match for match in matches]
    return [path]


def _check_kind(info: dict[str, Any], path: str) -> None:
    name = public_name(path)
    if info["type"] == "directory":
        raise PreparationError(f"{name} is a folder: give its files, for example {name.rstrip('/')}/*.json.gz")
    if info["type"] != "file":
        raise PreparationError(
            f"{name} is not a regular file but {_kind(path)}: write its content into a file, and give that."
        )


def _kind(path: str) -> str:
    mode = os.stat(path).st_mode
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((kind for test, kind in kinds.items() if test(mode)), "something else")


def _why_missing(path: str, error: FileNotFoundError) -> str:
    name, cause = public_name(path), error.__cause__
    if "://" in path:
        status = getattr(cause, "status", None)
        if cause is None or isinstance(cause, FileNotFoundError) or status == 404:
            return f"{name}: there is no such file."
        return f"{name} cannot be reached: " + (f"the server answers {status}" if status else str(cause))
    if os.path.islink(path):
        return f"{name} is a link to {os.readlink(path)}, which is not there."
    folder = Path(path).parent
    return f"{name}: there is no {f'folder {folder}' if not folder.is_dir() else 'such file'}."


def _open_system(path: str) -> tuple[Any, str]:
    try:
        return url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise PreparationError(f"{public_name(path)} cannot be opened: {error}") from error


def recorded_name(path: str) -> str:
    """Name of a file in the written data set: a local file without its folders, a URL without secrets."""
    if member := as_member(path):
        return str(member._replace(container=recorded_name(member.container)))
    if "://" not in path:
        return Path(path).name
    if "::" in path:
        return "::".join(recorded_name(part) for part in path.split("::"))
    parts = urlsplit(path)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def public_name(path: str) -> str:
    """Name of a file in messages: a URL without secrets."""
    return recorded_name(path) if "://" in path else path


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the errors of opening and reading a file into one line that names it."""
    try:
        yield
    except READING_ERRORS as error:
        raise why_unreadable(path, error) from error
    except Exception as error:
        if "://" not in path or isinstance(error, PreparationError):
            raise
        # each library for remote files has errors of its own
        raise PreparationError(f"{public_name(path)} cannot be reached: {error or type(error).__name__}") from error


def why_unreadable(path: str, error: Exception) -> PreparationError:
    """The error to raise instead of one of [`READING_ERRORS`]."""
    if isinstance(error, CORRUPTION):
        return PreparationError(
            f"{public_name(path)}: the compressed file or archive is corrupt or truncated ({error})."
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return PreparationError(f"{public_name(path)} could not be read to its end: {reason}")


def file_size(path: str) -> int | None:
    """Size of a file as stored, in bytes; ``None`` if unknown."""
    if as_member(path):
        return None
    system, name = _open_system(path)
    size = system.info(name).get("size")
    return None if size is None else int(size)
