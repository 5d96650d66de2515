"""A file that is written in parts and joined at the end: a run that was stopped goes on after its last whole part."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ..data.rows import Row
from ..files import read_json
from .table_files import WRITERS

#: The end of the name of the folder of parts, beside the file.
PARTS = ".parts"
#: What is done: the settings, and how many users and parts. A part counts once it is in here.
MANIFEST_NAME = "done.json"
BEGIN_ANEW = "overwrite= begins anew"


class Parts:
    """The parts of a table that are written, in a folder beside the file that they will be.

    Attributes:
        done: ``users``, ``parts`` and other counts so far, and the ``sha256`` of these users and their histories.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], done: dict[str, Any]) -> None:
        self.folder, self.settings, self.done = folder, settings, done
        self._digest = hashlib.sha256()

    def skip(self, users: Iterator[Row]) -> None:
        """Read the users that are done.

        Raises:
            ValueError: If others are in their places.
        """
        for row in islice(users, self.done["users"]):
            self._digest.update(_line(row))
        if self.done["users"] and self._digest.hexdigest() != self.done["sha256"]:
            raise ValueError(
                f"{self.folder} has recommendations for {self.done['users']:,} users, and the input does not begin "
                f"with these users and histories: go on with the same input; {BEGIN_ANEW}."
            )

    def add(self, users: Sequence[Row], table: pa.Table, counts: Mapping[str, int]) -> None:
        """Write the recommendations for the next users; ``counts``, with ``users``, are added to those before."""
        part = self.folder / _name_of_part(self.done["parts"])
        with _whole(part) as new:
            pq.write_table(table, new)
        for row in users:
            self._digest.update(_line(row))
        sums = {name: self.done.get(name, 0) + count for name, count in counts.items()}
        self.done = {**sums, "parts": self.done["parts"] + 1, "sha256": self._digest.hexdigest()}
        self._write_manifest()

    @property
    def are_joined(self) -> bool:
        """Whether the file is there, of a run that was stopped while it removed the parts."""
        return bool(self.done.get("joined"))

    def join(self, output: Path) -> None:
        """Make the parts one file, which appears whole.

        Raises:
            ValueError: If a part is missing or damaged.
        """
        joined = self.folder / "joined"
        with joined.open("wb") as file:
            WRITERS[output.suffix.lower()](self._tables(), file)
        joined.replace(output)
        self.done["joined"] = True
        self._write_manifest()

    def _write_manifest(self) -> None:
        with _whole(self.folder / MANIFEST_NAME) as new:
            new.write_text(json.dumps({"settings": self.settings, "done": self.done}, indent=1), encoding="utf-8")

    def _tables(self) -> Iterator[pa.Table]:
        users = 0
        for number in range(self.done["parts"]):
            part = self.folder / _name_of_part(number)
            try:
                table = pq.read_table(part)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{part} is missing or damaged ({error}): {BEGIN_ANEW}.") from error
            users += len(table)
            yield table
        if users != self.done["users"]:
            raise ValueError(f"{self.folder} has {users:,} users, not {self.done['users']:,}: {BEGIN_ANEW}.")


@contextmanager
def open_parts(output: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Parts]:
    """The parts of a file, those of a run that was stopped among them. They are removed once they are joined.

    Args:
        output: The file.
        settings: What the rows depend on besides the users, as plain values.
        overwrite: Whether to replace the file, and parts that were written with other settings.

    Raises:
        FileExistsError: If the file is there, and may not be replaced.
        ValueError: If the parts have other settings, or another run is writing them.
    """
    folder = folder_of_parts(output)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"{output} is being written by another run.") from error
    try:
        yield Parts(folder, settings, _begun(output, folder, settings, overwrite))
    finally:
        done = read_json(folder / MANIFEST_NAME).get("done")
        is_over = done is None or done.get("joined")
        if is_over:  # the manifest last: as long as it is there, the same call cleans up
            _remove_parts(folder)
            (folder / "lock").unlink(missing_ok=True)
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
        lock.release()
        if is_over:
            with suppress(OSError):  # it may hold files of others
                folder.rmdir()


def _begun(output: Path, folder: Path, settings: Mapping[str, Any], overwrite: bool) -> dict[str, Any]:
    """What is done of the file; nothing if it is begun anew."""
    found = read_json(folder / MANIFEST_NAME)
    before = found.get("settings", {})
    other = [name for name in settings if before.get(name) != settings[name]] if found else []
    if other and not overwrite:
        names = ", ".join(other)
        raise ValueError(
            f"{folder} has the beginning of a table with other settings ({names}): go on with those; {BEGIN_ANEW}."
        )
    if found and not other and (output.exists() or not found["done"].get("joined")):
        return found["done"]
    check_output(output, overwrite=overwrite)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    _remove_parts(folder)
    return {"users": 0, "parts": 0}


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written.

    Raises:
        ValueError: If its suffix says no kind of table.
        FileExistsError: If it is there, may not be replaced, and no parts of a stopped run are beside it.
        IsADirectoryError: If it is a folder.
    """
    if output.suffix.lower() not in WRITERS:
        raise ValueError(f"{output}: expected a file that ends in {', '.join(WRITERS)}, or - for standard output.")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; expected a file.")
    if output.exists() and not overwrite and not (folder_of_parts(output) / MANIFEST_NAME).exists():
        raise FileExistsError(f"{output} exists: overwrite= replaces it.")


def folder_of_parts(output: Path) -> Path:
    """Where the parts of a file are."""
    return output.with_name(output.name + PARTS)


def _remove_parts(folder: Path) -> None:
    for pattern in ("part-*.parquet", "*.new", "joined"):
        for path in folder.glob(pattern):
            path.unlink()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to write, which takes its place when the block ends."""
    new = path.with_name(path.name + ".new")
    yield new
    os.replace(new, path)


def _name_of_part(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _line(row: Row) -> bytes:
    return json.dumps([row.user, row.items]).encode() + b"\n"
