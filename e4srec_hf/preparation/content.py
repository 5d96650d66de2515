"""The content of raw files: stored anywhere, in an archive or a workbook, compressed or not, and never without end."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from .errors import PreparationError
from .files import Member, as_member, explained, public_name
from .workbooks import open_sheet

DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
#: What a file is, by its first bytes, if it is no log; and what to do about it.
FOREIGN = {
    **dict.fromkeys(DECOMPRESSORS, "compressed twice: decompress it once"),
    b"\x5d\x00\x00": "compressed with LZMA alone, which is not supported: decompress it, or compress it with xz",
    b"version https://git-lfs": "a Git LFS pointer and not the file itself: fetch it with git lfs pull",
    b"/annex/objects/": "a git-annex pointer and not the file itself: fetch it with git annex get",
    b"PK\x03\x04": "an archive in an archive: unpack the outer one",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard, which is not supported: decompress it first",
    b"\x04\x22\x4d\x18": "compressed with LZ4, which is not supported: decompress it first",
    b"\x1f\x9d": "compressed with compress, which is not supported: decompress it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive, which is not supported: unpack it first",
    b"Rar!\x1a\x07": "a RAR archive, which is not supported: unpack it first",
    b"SQLite format 3\x00": "an SQLite database: export the interactions as CSV or Parquet",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file: write the interactions as CSV or Parquet",
    b"ARROW1\x00\x00": "an Arrow file: write the interactions as Parquet",
    b"\x93NUMPY": "a NumPy file: write the interactions as CSV or Parquet",
    b"Obj\x01": "an Avro file: write the interactions as CSV or Parquet",
    b"%PDF-": "a PDF document",
    **{
        b"\x80" + bytes([protocol]): "a pickle, which is never opened: write CSV or Parquet"
        for protocol in (2, 3, 4, 5)
    },
}
#: First bytes of files in which zeros are right: Parquet, and text with the byte-order mark of UTF-16 or UTF-32.
BINARY = (PARQUET := b"PAR1", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
WEB_PAGES = (b"<!doctype html", b"<html", b"<?xml")
BLOCK = 1 << 23
#: A file may unfold to this many bytes for each stored byte, and always to ALWAYS_READ bytes.
MOST_UNFOLDED, ALWAYS_READ = 100, 1 << 26
#: Bytes by which the kind of a file is known.
START = 1 << 12


def check_unfolded(size: int, stored: int, name: str) -> None:
    """Refuse what is much larger than what is stored.

    Raises:
        PreparationError: If ``size`` bytes are too many for ``stored`` ones.
    """
    if size > max(ALWAYS_READ, MOST_UNFOLDED * stored):
        raise PreparationError(
            f"{name} unfolds to more than {MOST_UNFOLDED} times its stored size, as no log does: if it is one, unpack "
            "it first."
        )


class HashedStream(io.RawIOBase):
    """A stream that hashes and counts the bytes read from it, and stops if they are too many for what is stored.

    Args:
        stream: The bytes.
        name: Name of the file in messages.
        stored: Number of stored bytes that gave them so far; by default as many.
    """

    def __init__(self, stream: IO[bytes], name: str, stored: Callable[[], int] | None = None) -> None:
        self.stream, self.name, self.digest, self.size = stream, name, hashlib.sha256(), 0
        self.stored = stored or (lambda: self.size)

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, hash and count up to ``len(buffer)`` bytes."""
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.size += len(data)
        check_unfolded(self.size, self.stored(), self.name)
        return len(data)


@dataclass(frozen=True)
class Content:
    """An open file.

    Attributes:
        raw: The file as stored; a member of an archive as it is in there.
        unfolded: The same after decompression.
        stream: ``unfolded`` with a buffer.
        facts: SHA-256 and size of what is stored, if they are not those of ``raw``.
    """

    raw: HashedStream
    unfolded: HashedStream
    stream: "io.BufferedReader[Any]"
    facts: dict[str, Any] | None

    @property
    def start(self) -> bytes:
        """The first bytes, without reading them."""
        return self.stream.peek()[:START]

    def finish(self) -> dict[str, Any]:
        """Read the rest; return hash and size of the file as stored."""
        for stream in (self.stream, self.raw):
            while stream.read(BLOCK):
                pass
        return self.facts or {"sha256": self.raw.digest.hexdigest(), "bytes": self.raw.size}


@contextmanager
def open_content(path: str, work: Path) -> Iterator[Content]:
    """Open a file; decompress it if its first bytes say that it is compressed.

    Args:
        path: The file, or a member.
        work: Folder for a copy of a workbook.

    Raises:
        PreparationError: If it cannot be read or is no log.
    """
    with explained(path), _open_raw(path, work) as (raw, facts):
        stream, unfolded = io.BufferedReader(raw, BLOCK), raw
        start = stream.peek()
        for magic, opener in DECOMPRESSORS.items():
            if start.startswith(magic):
                unfolded = HashedStream(cast(IO[bytes], opener(stream)), public_name(path), raw.stored)
                stream = io.BufferedReader(unfolded, BLOCK)
        yield Content(raw, unfolded, stream, facts)


def check_start(start: bytes, path: str, encoding: str | None) -> None:
    """Refuse a file that is known to be no log.

    Args:
        start: Its first bytes.
        path: The file.
        encoding: The encoding that the user names.

    Raises:
        PreparationError: With what the file is.
    """
    kind = next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), None)
    if start.lstrip().lower().startswith(WEB_PAGES):
        kind = "a web page or an error message of a server: download the file again"
    if not encoding and not start.startswith(BINARY):
        kind = kind or _why_no_text(start)
    if kind is not None:
        raise PreparationError(f"{public_name(path)} is {kind}.")


def _why_no_text(start: bytes) -> str | None:
    """What bytes with many zeros are."""
    if start.count(0) * 10 <= len(start):
        return None
    high, low = start[0::2].count(0), start[1::2].count(0)
    if max(high, low) > 4 * min(high, low):
        return f"no UTF-8 text: try --encoding {'utf-16-be' if high > low else 'utf-16-le'}"
    return "no text: it has NUL bytes, as binary files have and files that were not written to their end"


@contextmanager
def _open_raw(path: str, work: Path) -> Iterator[tuple[HashedStream, dict[str, Any] | None]]:
    member, name = as_member(path), public_name(path)
    if member is None:
        copy = _place_of_copy(path, work)
        with fsspec.open(str(copy) if copy.exists() else path, "rb") as stream:
            yield HashedStream(cast(IO[bytes], stream), name), None
    elif member.kind == "xlsx":
        facts = copy_here(member.container, work / "workbook", work)
        with open_sheet(work / "workbook", member) as stream:
            yield HashedStream(stream, name), facts
    else:
        with (open_in_zip if member.kind == "zip" else _open_in_tar)(member, work) as (stream, stored):
            yield HashedStream(stream, name, stored), None


@contextmanager
def open_zip(path: str) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """Open a zip archive; also give its size."""
    if as_member(path):
        raise PreparationError(f"{public_name(path)} is an archive in an archive: unpack the outer one.")
    with fsspec.open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(cast(IO[bytes], file)) as archive:
            yield archive, size


@contextmanager
def open_in_zip(member: Member, work: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Open a member of a zip archive; also give how many bytes hold it."""
    with open_zip(member.container) as (archive, size):
        info = archive.getinfo(member.name)
        if info.flag_bits & 1:
            raise PreparationError(f"{public_name(str(member))} is encrypted: unpack it first.")
        stored = min(info.compress_size, size)
        check_unfolded(info.file_size, stored, public_name(str(member)))
        with archive.open(info) as stream:
            yield stream, lambda: stored


@contextmanager
def open_tar(path: str, work: Path) -> Iterator[tuple[tarfile.TarFile, Callable[[], int]]]:
    """Open a tar archive, compressed or not, to read once from its start; also give how many bytes were taken of it.

    A remote one is fetched once, into ``work``, for it is read again for each of its members.
    """
    copy = _place_of_copy(path, work)
    if "://" in path and not as_member(path) and not copy.exists():
        with explained(path), fsspec.open(path, "rb") as stream, copy.open("wb") as file:
            shutil.copyfileobj(cast(IO[bytes], stream), file, BLOCK)
    with (
        open_content(path, work) as content,
        tarfile.open(fileobj=content.stream, mode="r|", bufsize=1 << 16) as archive,
    ):
        yield archive, content.raw.stored


@contextmanager
def _open_in_tar(member: Member, work: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    with open_tar(member.container, work) as (archive, stored):
        info = next(info for info in archive if info.isreg() and info.name == member.name)
        yield cast(IO[bytes], archive.extractfile(info)), stored


def _place_of_copy(path: str, work: Path) -> Path:
    """Where the copy of a remote file is, if one was made."""
    return work / f"{hashlib.sha256(path.encode()).hexdigest()}.copy"


def copy_here(path: str, target: Path, work: Path) -> dict[str, Any]:
    """Copy a file that cannot be read as a stream; return hash and size."""
    with open_content(path, work) as content:
        return copy_content(content, target)


def copy_content(content: Content, target: Path) -> dict[str, Any]:
    """Write what is left of a content into a file; return hash and size of the file as stored."""
    with target.open("wb") as file:
        shutil.copyfileobj(content.stream, file, BLOCK)
    return content.finish()
