"""Open raw files: local, at a URL, on the Hub or in a zip archive; compressed or not."""

import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit, urlunsplit

import fsspec
from fsspec.core import url_to_fs

from .errors import PreparationError

DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
#: Errors raised by a corrupt or truncated compressed file.
DECOMPRESSION_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
BLOCK = 1 << 23


class HashedStream(io.RawIOBase):
    """A stream that hashes and counts the bytes read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest, self.size = stream, hashlib.sha256(), 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, hash and count up to ``len(buffer)`` bytes."""
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def finish(self) -> dict[str, Any]:
        """Read the rest; return hash and size of the whole file."""
        while self.read(BLOCK):
            pass
        return {"sha256": self.digest.hexdigest(), "bytes": self.size}


def find_files(paths: Sequence[str]) -> list[str]:
    """Resolve paths and patterns: a pattern with ``*`` gives all matching files, sorted.

    Raises:
        PreparationError: If a file does not exist, is a folder or is given twice.
    """
    found = []
    for path in paths:
        system, name = _open_system(path)
        if system.exists(name):
            if system.isdir(name):
                raise PreparationError(
                    f"{public_name(path)} is a folder: give its files, for example "
                    f"{public_name(path).rstrip('/')}/*.json.gz"
                )
            found.append(path)
            continue
        matches = [match for match in sorted(system.glob(name)) if not system.isdir(match)] if "*" in path else []
        if not matches:
            raise PreparationError(f"{public_name(path)}: there is no such file.")
        found += [cast(str, system.unstrip_protocol(match)) if "://" in path else match for match in matches]
    if len(set(found)) < len(found):
        raise PreparationError("A file is given twice: its interactions would count twice.")
    return found


def _open_system(path: str) -> tuple[Any, str]:
    try:
        return url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise PreparationError(f"{public_name(path)} cannot be opened: {error}") from error


def recorded_name(path: str) -> str:
    """Name of a file in the written data set: a local file without its folders, a URL without secrets."""
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
def open_raw(path: str) -> Iterator[HashedStream]:
    """Open a file as stored, without decompressing it."""
    with fsspec.open(path, "rb") as stream:
        yield HashedStream(cast(IO[bytes], stream))


def decompressed(raw: HashedStream, path: str) -> IO[bytes]:
    """Decompress a file if its first bytes say that it is compressed.

    Raises:
        PreparationError: If it is a zip archive or compressed with Zstandard.
    """
    stream = io.BufferedReader(raw, BLOCK)
    start, name = stream.peek(8)[:8], public_name(path)
    if start[:4] == b"PK\x03\x04":
        raise PreparationError(f"{name} is a zip archive: give a file in it as zip://file::{name}")
    if start[:4] == b"\x28\xb5\x2f\xfd":
        raise PreparationError(f"{name} is compressed with Zstandard, which is not supported: decompress it first.")
    for magic, opener in DECOMPRESSORS.items():
        if start.startswith(magic):
            return cast(IO[bytes], opener(stream))
    return cast(IO[bytes], stream)


def copy_here(path: str, target: Path) -> dict[str, Any]:
    """Copy a file that cannot be read as a stream; return hash and size."""
    with open_raw(path) as raw, target.open("wb") as file:
        shutil.copyfileobj(cast(IO[bytes], raw), file, BLOCK)
        return raw.finish()


def first_bytes(path: str, count: int = 8) -> bytes:
    """The first bytes of a file."""
    with fsspec.open(path, "rb") as stream:
        return cast(bytes, stream.read(count))


def file_size(path: str) -> int | None:
    """Size of a file as stored, in bytes; ``None`` if unknown."""
    system, name = _open_system(path)
    size = system.info(name).get("size")
    return None if size is None else int(size)
