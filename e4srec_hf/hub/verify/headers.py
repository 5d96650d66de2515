"""Read safetensors files: what the header says of the tensors, and whether all their values are numbers."""

import json
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from ...files import LARGEST_HEADER
from .limits import CHUNK, MOST_TENSORS
from .sources import Source, UnreadableError

#: Names of dtypes in safetensors files, and the bytes of those that a release writes weights in.
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64", "int32": "I32", "bool": "BOOL"}
WIDTHS = {"F32": 4, "BF16": 2, "F16": 2}
#: Names of floating-point dtypes in safetensors files. Others have no NaN and no infinity, or hold pairs of values.
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class Stored(NamedTuple):
    """A tensor as described in the header of its file."""

    shape: tuple[int, ...]
    dtype: str


class Header(NamedTuple):
    """The header of a safetensors file."""

    tensors: dict[str, Stored]
    metadata: dict[str, str]


def read_header(source: Source, path: str) -> Header:
    """Read the tensors and the metadata of a safetensors file with the library that also loads them.

    The weights themselves are not fetched: the library reads a sparse file of the same length with only the header.

    Raises:
        ValueError: If the file is not a complete safetensors file, or its header is too large.
        UnreadableError: If it could not be read.
    """
    size = source.files[path]
    length = int.from_bytes(source.start(path, 8), "little")
    if length > size - 8:
        raise ValueError(f"it has {size} bytes, too few for its header of {length}")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header has {length} bytes; no model needs more than {LARGEST_HEADER}")
    header = source.start(path, 8 + length)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "header.safetensors")
        try:
            with file.open("wb") as out:
                out.write(header)
                out.truncate(size)
            with safe_open(file, framework="pt") as stored:
                if len(names := stored.keys()) > MOST_TENSORS:
                    raise ValueError(f"it has {len(names)} tensors, more than {MOST_TENSORS}")
                parts = {name: stored.get_slice(name) for name in names}
                tensors = {name: Stored(tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
                return Header(tensors, stored.metadata() or {})
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        except OSError as error:  # the disk may not allow a sparse file of this length
            raise UnreadableError(str(error)) from error


def tensors_without_numbers(file: Path) -> list[str]:
    """Names of the tensors with NaN or infinity in a complete safetensors file; it is read in small parts.

    Raises:
        OSError: If it cannot be read.
    """
    with file.open("rb") as opened:
        start = 8 + int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(start - 8))
        header.pop("__metadata__", None)
        return [
            name
            for name, tensor in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"])
            if tensor["dtype"] in FLOATS
            and not _all_finite(opened, start, tensor["data_offsets"], FLOATS[tensor["dtype"]])
        ]


def _all_finite(opened: BinaryIO, start: int, offsets: list[int], dtype: torch.dtype) -> bool:
    begin, end = offsets
    opened.seek(start + begin)
    for place in range(begin, end, CHUNK):
        content = bytearray(opened.read(min(CHUNK, end - place)))
        values = torch.frombuffer(content, dtype=dtype).to(torch.float32 if dtype.itemsize < 4 else dtype)
        if not values.sum().isfinite() and not values.isfinite().all():  # a sum may overflow
            return False
    return True
