"""How much a file of tensors may ask for: of instructions, of values that stand for others, of bytes once unpacked."""

import os
import pickle
import pickletools
import stat
import zipfile
from pathlib import Path
from typing import IO

from ..files import LARGEST_HEADER

#: Instructions of a pickle: a tensor takes about sixty.
MOST_INSTRUCTIONS = 500_000
#: Values in a tuple and in the tuples inside it. Shared tuples of a few bytes can stand for billions.
MOST_IN_A_TUPLE = 10_000
#: Bytes of a file that is read as a whole. Archives of `torch.save` and safetensors are mapped instead.
LARGEST_READ = 2 * 1024**3
#: Pickles at the beginning of a file in the older format of `torch.save`; what is stored follows.
OLDER_PICKLES = 5


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file, and would be waited for or read for ever.

    Raises:
        ValueError: If it is a pipe, a socket or a device.
        OSError: If there is nothing.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"{path} is a pipe, a socket or a device; expected a file.")


def check_size(path: str | os.PathLike[str]) -> None:
    """Check the size of a file that is read as a whole.

    Raises:
        ValueError: If it is too large; the message says how to save it.
    """
    if (size := os.stat(path).st_size) > LARGEST_READ:
        raise ValueError(f"it has {size} bytes, more than {LARGEST_READ}; save it as .safetensors")


def check_pickles(file: IO[bytes], number: int = 1) -> None:
    """Follow the instructions of the next pickles in a file without doing anything.

    Raises:
        pickle.UnpicklingError: If they have too many instructions, or tuples that stand for too many values.
        ValueError: If they are no pickles, or not whole.
    """
    left = MOST_INSTRUCTIONS
    for _ in range(number):
        stack: list[int] = []  # for each object: the values in it, if it is a tuple
        marks: list[int] = []  # places of the marks in it
        memo: dict[int, int] = {}
        for instruction, argument, _ in pickletools.genops(file):
            left -= 1
            name, before = instruction.name, instruction.stack_before
            if left < 0:
                raise pickle.UnpicklingError(f"more than {MOST_INSTRUCTIONS} instructions")
            if name.endswith("PUT"):
                memo[int(argument or 0)] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo.get(int(argument or 0), 1))
            else:
                start = _start(stack, marks, [each.name for each in before])
                taken, stack[start:] = stack[start:], []
                size = 1 + sum(taken) if name.startswith("TUPLE") else 1
                if size > MOST_IN_A_TUPLE:
                    raise pickle.UnpicklingError(f"tuples that stand for more than {MOST_IN_A_TUPLE} values")
                for each in instruction.stack_after:
                    if each.name == "mark":
                        marks.append(len(stack))
                    stack.append(size)


def _start(stack: list[int], marks: list[int], before: list[str]) -> int:
    """Where in the stack begins what an instruction takes; marks that it takes are dropped."""
    start = len(stack) - len(before)
    if "mark" in before:
        if not marks:
            raise ValueError("a mark is missing")
        start = marks.pop() - before.index("mark")
    while marks and marks[-1] >= start:
        marks.pop()
    return max(0, start)


def check_zip(path: str | os.PathLike[str]) -> None:
    """Check that an archive has its parts as they are, as `torch.save` stores them: it unfolds to no more than itself.

    Raises:
        ValueError: If a part is compressed, or parts overlap.
        zipfile.BadZipFile: If it is no whole archive.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if packed := [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"{packed[0]} in it is compressed, which torch.save never does")
        if sum(part.file_size for part in parts) > Path(path).stat().st_size:
            raise ValueError("its parts are larger than the file")
        for part in parts:
            if part.filename.endswith("/data.pkl"):
                with archive.open(part) as opened:
                    check_pickles(opened)


def check_header(path: str | os.PathLike[str]) -> None:
    """Check the length of the header of a safetensors file.

    Raises:
        ValueError: If no real file has such a long one.
    """
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header has {length} bytes, more than {LARGEST_HEADER}")
