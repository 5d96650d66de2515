"""Tensors out of files that others made: what a pickle wants to call is looked up in a short list, or refused.

`torch.load(weights_only=True)` does that for the files that `torch.save` writes. A plain pickle of a tensor, as the
reference implementation keeps its item vectors, calls `torch.load` by itself, without that argument; it is read here.
"""

import io
import os
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from .bounds import OLDER_PICKLES, check_header, check_pickles, check_regular, check_size, check_zip

#: How a file begins that `torch.save` wrote: as a zip archive, or with the number of its older format.
NUMPY_START = b"\x93NUMPY"
ZIP_START, OLDER_TORCH_START = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

#: Tensors of a file, and characters of a name.
MOST_TENSORS, LONGEST_NAME = 100_000, 1000

#: The instructions of a pickle that build plain values, name something of the list below and call it.
#: Those that make or change objects by other ways (BUILD, INST, NEWOBJ, EXT, PERSID …) are not among them.
ADMITTED_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
}


def load_tensors(
    path: str | os.PathLike[str], *, skip: Callable[[str], bool] = lambda name: False
) -> Tensor | dict[str, Tensor]:
    """Read the tensors of a file to the CPU, and run nothing.

    Args:
        path: A pickle, a file that `torch.save` wrote, a ``.npy`` or a ``.safetensors`` file. It holds a tensor, or
            dictionaries of tensors, one inside the other.
        skip: Whether what has a name is left out, whatever it is.

    Returns:
        The tensor; or the tensors by their names, those of inner dictionaries joined with a dot, as in
        ``input_proj.weight``. A file in the zip format is mapped: only what is used is read.

    Raises:
        ValueError: If the file calls anything but what rebuilds tensors, which is named; if it is no such file, or not
            whole; if it holds something else than tensors; or if a tensor claims more values than are stored.
        OSError: If it cannot be opened.
    """
    check_regular(path)
    with Path(path).open("rb") as file:
        start = file.read(len(OLDER_TORCH_START))
    try:
        if Path(path).suffix == ".safetensors":
            check_header(path)
            content: Any = load_file(path)
        elif start.startswith(NUMPY_START):
            check_size(path)
            content = torch.from_numpy(_native(np.load(path, allow_pickle=False)))
        elif start.startswith(ZIP_START):
            check_zip(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        elif start == OLDER_TORCH_START:
            check_size(path)
            with Path(path).open("rb") as file:
                check_pickles(file, OLDER_PICKLES)
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = _load_pickle(_read_pickle(Path(path)))
    except Exception as error:  # a broken file makes a reader fail in any way
        if (refused := _refused_name(error)) is None:
            raise ValueError(f"{path} is no file of tensors, or not whole ({_without_advice(error)}).") from error
        raise ValueError(
            f"{path} wants to use {refused}, which no tensor needs. It is refused, and nothing of it was run. "
            "If it comes from where you trust it, save its tensors alone, with torch.save."
        ) from None  # what torch says here is how to run it all the same
    if isinstance(content, Tensor):
        return _checked(content, f"{path}")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a tensor or a dictionary of tensors.")
    try:
        leaves = _leaves(content)
    except ValueError as error:
        raise ValueError(f"{path} is no file of tensors: {error}") from error
    return {name: _checked(value, f"{path}: {name}") for name, value in leaves if not skip(name)}


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """An array in the order of bytes and axes that torch reads."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def load_named_tensors(
    path: str | os.PathLike[str], *, skip: Callable[[str], bool] = lambda name: False
) -> dict[str, Tensor]:
    """As [`load_tensors`], of a file whose tensors have names.

    Raises:
        ValueError: Also if it holds one tensor without a name.
    """
    content = load_tensors(path, skip=skip)
    if isinstance(content, Tensor):
        raise ValueError(f"{path} holds a tensor without a name; expected a dictionary of tensors.")
    return content


class RefusedName(pickle.UnpicklingError):
    """A pickle names something that is not admitted."""


def _refused_name(error: Exception) -> str | None:
    if isinstance(error, RefusedName):
        return str(error)
    named = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
    return None if named is None else named[1]


def _without_advice(error: Exception) -> str:
    """What is wrong, on one line, without the advice of torch to run what the file says."""
    if "weights_only" in str(error):
        return "its pickle does what no tensor needs"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _read_pickle(path: Path) -> bytes:
    """A plain pickle, whose instructions are within bounds."""
    check_size(path)
    with path.open("rb") as file:
        check_pickles(file)
        file.seek(0)
        return file.read()


def _load_pickle(content: bytes) -> Any:
    refused = None
    for instruction, argument, place in pickletools.genops(content):
        position = int(place or 0)
        if instruction.name not in ADMITTED_INSTRUCTIONS:
            refused = f"the pickle instruction {instruction.name}"
            # end it there, so that a name before it is refused as such
            content = content[:position] + pickle.NONE + pickle.STOP + content[position + 2 :]
            break
        if instruction.name.endswith("PUT") and int(argument or 0) > position:
            raise pickle.UnpicklingError(f"place {argument} of its memo, which would need as many")
    value = _TensorUnpickler(io.BytesIO(content)).load()
    if refused is not None:
        raise RefusedName(refused)
    return value


class _TensorUnpickler(pickle.Unpickler):
    """Finds what rebuilds a tensor, by its whole name, and nothing else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in ADMITTED_NAMES:
            raise RefusedName(f"{module}.{name}")
        return ADMITTED_NAMES[module, name]


def _load_storage(content: bytes) -> torch.storage.TypedStorage:
    """In the place of `torch.storage._load_from_bytes`, which would run what the bytes say."""
    if not content.startswith(OLDER_TORCH_START):
        raise pickle.UnpicklingError("a storage in another format than that of torch")
    check_pickles(io.BytesIO(content), OLDER_PICKLES)
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError(f"a {type(storage).__name__} in the place of a storage")
    return storage


def _rebuild_tensor(
    storage: torch.storage.TypedStorage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """In the place of `torch._utils._rebuild_tensor_v2`, which enlarges a storage that is too small."""
    values = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)  # type: ignore[call-overload]
    return values.as_strided(size, stride, offset)  # refuses what is outside


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


#: Module and name of what a plain pickle may call, and what is called in its place.
ADMITTED_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): lambda: OrderedDict(),  # it takes no keys of any other kind
}


def _leaves(content: dict[Any, Any]) -> list[tuple[str, Any]]:
    """Names and values of a dictionary and of those inside it, a few of them one inside the other."""
    leaves = list(islice(_named(content, "", 3), MOST_TENSORS + 1))
    if len(leaves) > MOST_TENSORS:
        raise ValueError(f"It holds more than {MOST_TENSORS} tensors, or the same dictionary many times.")
    return leaves


def _named(content: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if not isinstance(name, str | int) or len(whole := f"{prefix}{name}") > LONGEST_NAME:
            raise ValueError(f"A tensor has no name, or one of more than {LONGEST_NAME} characters.")
        if isinstance(value, dict) and depth:
            yield from _named(value, f"{whole}.", depth - 1)
        else:
            yield whole, value


def _checked(value: Any, where: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"{where} is a {type(value).__name__}; expected a tensor.")
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.device.type != "cpu":
        raise ValueError(f"{where} is no plain tensor of numbers ({value.dtype}, {value.layout}, on {value.device}).")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{where} claims the shape {tuple(value.shape)}, for which too few values are stored.")
    return value.detach()
