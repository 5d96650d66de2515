"""Turn raw bytes into numbered lines, block by block, and collect the invalid lines."""

import codecs
import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .content import BLOCK
from .json_text import elements, is_array

#: Maximum length of a line, in bytes; a longer line is an invalid record.
MAX_LINE = 1 << 25
#: Bytes of a too long line that are reported.
KEPT_OF_LONG_LINE = 1000
#: Bytes by which the ends of lines are known.
SAMPLE = 1 << 16
BOM = codecs.BOM_UTF8
#: Byte-order marks of UTF-32 and UTF-16, the longer ones first.
WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What stands before invalid bytes of another encoding: as text, and as UTF-8, where it is invalid.
MARK, INVALID = "\udcff", b"\xff\xfe\xff"
#: Name of the error handler of codecs that puts it there; those of Python give bytes that may pass for text.
MARKED = "e4srec_hf.marked"
#: Reasons why a line is invalid.
BAD_ENCODING = "bytes invalid in the encoding (name another with --encoding)"
TOO_LONG = f"line longer than {MAX_LINE >> 20} MiB"


@dataclass
class Block:
    """Consecutive lines.

    Attributes:
        lines: Text without line breaks; empty and invalid lines are ``""``.
        first: Number of the first line, from 1.
        bad: Number, reason and content of each invalid line.
        has_quotes: Whether any line has a double quote.
        last: Whether this is the last block of the file.
    """

    lines: pa.StringArray
    first: int
    bad: list[tuple[int, str, str]]
    has_quotes: bool
    last: bool


class TextDigest:
    """Hash of the lines of a text, whatever its encoding and the ends of its lines; empty lines do not count."""

    def __init__(self) -> None:
        self.text, self.lengths = hashlib.sha256(), hashlib.sha256()
        self.is_empty = True

    def taken(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield the same blocks."""
        for block in blocks:
            lengths = pc.binary_length(block.lines).to_numpy(zero_copy_only=False)
            lengths = lengths[lengths > 0]
            if len(lengths):
                self.lengths.update(lengths.tobytes())
                self.text.update(memoryview(block.lines.buffers()[2])[: int(lengths.sum(dtype=np.int64))])
                self.is_empty = False
            yield block

    def result(self) -> str | None:
        """The hash; ``None`` without lines."""
        return None if self.is_empty else self.text.hexdigest() + self.lengths.hexdigest()


def read_lines(
    stream: IO[bytes], *, encoding: str | None = None, fallback_encoding: str | None = None
) -> Iterator[Block]:
    r"""Cut a stream at ``\n``; a ``\r`` before it and byte-order marks at the start of lines are dropped.

    A file whose lines end with ``\r`` alone is cut there. Each element of a JSON array of objects is a line.

    Args:
        stream: The content of a file.
        encoding: Encoding of the file; by default UTF-8, or UTF-16 or UTF-32 if there is a byte-order mark.
        fallback_encoding: Encoding of lines that are not valid UTF-8, if no ``encoding`` is given.
    """
    number, rest = 1, b""
    fallback = fallback_encoding if encoding is None else None
    for data, last in _with_last(_as_lines(_as_utf8(stream, encoding))):
        data = rest + data
        end = len(data) if last else data.rfind(b"\n") + 1
        rest, data = data[end:][: MAX_LINE + 1], data[:end]  # enough of a long line to see that it is too long
        if last and data and not data.endswith(b"\n"):
            data += b"\n"
        if data or last:
            block = _block(data, number, fallback, last)
            number += len(block.lines)
            yield block


def _as_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Bring text that is laid out in another way to lines, by how it starts."""
    start = b""
    for part in parts:
        start += part
        if len(start) >= SAMPLE:
            break
    parts = itertools.chain([start], parts)
    body = start.rstrip(b"\r\n")
    if is_array(start):
        return elements(parts)
    if b"\r" in body and b"\n" not in body:
        return (part.replace(b"\r", b"\n") for part in parts)
    return parts


def _with_last(parts: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    before = b""
    for part in parts:
        if before:
            yield before, False
        before = part
    yield before, True


def _as_utf8(stream: IO[bytes], encoding: str | None) -> Iterator[bytes]:
    """Convert blocks of bytes to UTF-8; bytes that are invalid in the encoding become invalid UTF-8."""
    first = stream.read(BLOCK)
    if encoding is None:
        encoding = next((name for mark, name in WIDE if first.startswith(mark)), "utf-8")
    encoding = codecs.lookup(encoding).name
    if encoding in ("utf-8", "utf-8-sig"):
        while first:
            yield first
            first = stream.read(BLOCK)
        return
    decoder = codecs.getincrementaldecoder(encoding)(MARKED)
    while first:
        yield decoder.decode(first).encode("utf-8", MARKED)
        first = stream.read(BLOCK)
    yield decoder.decode(b"", final=True).encode("utf-8", MARKED)


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle invalid bytes, and halves of characters that a codec lets through, as the handler ``MARKED``."""
    if isinstance(error, UnicodeDecodeError):
        return MARK + "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end]), error.end
    if isinstance(error, UnicodeEncodeError):
        halves = error.object[error.start : error.end].replace(MARK, "")
        return INVALID + "".join(f"\\u{ord(half):04x}" for half in halves).encode(), error.end
    raise error


codecs.register_error(MARKED, _mark)


def _block(data: bytes, number: int, fallback: str | None, last: bool) -> Block:
    if BOM in data:
        data = data.removeprefix(BOM).replace(b"\n" + BOM, b"\n")
    bad: list[tuple[int, str, str]] = []
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if (len(ends) and np.diff(ends, prepend=-1).max() > MAX_LINE + 1) or not _is_utf8(data):
        data, bad = _blank_invalid_lines(data, number, fallback)
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends + 1
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data))
    return Block(pc.utf8_rtrim(lines, "\r\n"), number, bad, b'"' in data, last)


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode() or True)
    except UnicodeDecodeError:
        return False


def _blank_invalid_lines(data: bytes, number: int, fallback: str | None) -> tuple[bytes, list[tuple[int, str, str]]]:
    """Replace invalid lines with empty ones; return number, reason and content of each."""
    bad, out = [], io.BytesIO()
    for place, line in enumerate(data.split(b"\n")[:-1]):
        if len(line) > MAX_LINE:
            bad.append((number + place, TOO_LONG, line[:KEPT_OF_LONG_LINE].decode(errors="backslashreplace")))
        elif _is_utf8(line):
            out.write(line)
        elif fallback is not None and (text := _decoded(line, fallback)) is not None:
            out.write(text.encode())
        else:
            shown = line.replace(INVALID, b"").decode(errors="backslashreplace")
            bad.append((number + place, BAD_ENCODING, shown))
        out.write(b"\n")
    return out.getvalue(), bad


def _decoded(line: bytes, encoding: str) -> str | None:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:
        return None
