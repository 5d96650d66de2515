"""Sheets of workbooks as CSV, read in a process of its own, for a small file can ask for any amount of memory."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

from .errors import PreparationError
from .files import Member, public_name
from .sheets import MEMORY, SECONDS, TYPED, UNREADABLE
from .sheets import __file__ as reader
from .source import Log
from .sql import sql_text

NO_ID = "an id is a time, a truth value or a fraction in the sheet; expected text or a whole number"


def sheets_of(workbook: Path, path: str) -> list[str]:
    """Names of the sheets of a workbook.

    Args:
        workbook: A copy of it.
        path: Its name in messages.

    Raises:
        PreparationError: If it cannot be read.
    """
    with _read(workbook, path) as stream:
        return [str(name) for name in json.load(stream)]


@contextmanager
def open_sheet(workbook: Path, member: Member) -> Iterator[IO[bytes]]:
    """Open a sheet as CSV.

    Raises:
        PreparationError: As [`sheets_of`]. After the last line, for what goes wrong while it is read.
    """
    with _read(workbook, member.container, member.name) as stream:
        yield stream


@contextmanager
def _read(workbook: Path, path: str, *sheet: str) -> Iterator[IO[bytes]]:
    name = public_name(path)
    library = find_spec("python_calamine")
    if library is None or library.origin is None:
        raise PreparationError(f"Reading {name} needs: pip install 'e4srec-hf[excel]'")
    # isolated: no module of the current folder is taken for one of Python
    command = [sys.executable, "-I", "-X", "utf8", reader, str(Path(library.origin).parents[1]), str(workbook), *sheet]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,  # noqa: S603
    ):
        try:
            yield cast(IO[bytes], _Checked(process, errors, name))
        finally:
            process.kill()


class _Checked:
    """The output of a process; its end is checked for an error, so that no part of a sheet passes for the whole."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes], name: str) -> None:
        self.process, self.errors, self.name = process, errors, name

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        data = cast(IO[bytes], self.process.stdout).read(size)
        if size < 0 or len(data) < size:
            self._check()
        return data

    def _check(self) -> None:
        if not (code := self.process.wait()):
            return
        self.errors.seek(0)
        message = self.errors.read().decode(errors="replace").strip()
        raise PreparationError(
            f"{self.name} is not a readable spreadsheet: {message}"
            if code == UNREADABLE
            else f"{self.name} takes more than {MEMORY >> 30} GiB of memory or {SECONDS // 60} minutes to read: "
            "save the sheet as CSV."
        )


def without_types(columns: str, log: Log) -> str:
    """SQL that selects the columns of a sheet: what is no id is a bad record, other values are text.

    Args:
        columns: SQL that selects ``reason`` and the columns of the sheet.
        log: The columns.
    """
    typed = " OR ".join(f"starts_with({column}, {sql_text(TYPED)})" for column in log.ids) or "false"
    texts = ", ".join(f"ltrim({column}, {sql_text(TYPED)}) AS {column}" for column in log.columns)
    reason = f"CASE WHEN {typed} THEN {sql_text(NO_ID)} ELSE reason END AS reason"
    content = f"replace(content, {sql_text(TYPED)}, '') AS content"
    return f"SELECT * REPLACE ({reason}, {content}, {texts}) FROM ({columns})"
