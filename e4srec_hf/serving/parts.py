"""A table that is written in parts and joined at the end: a run that was stopped goes on after its last whole part."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
#: The settings of the run. Parts count as long as it is there.
SETTINGS_NAME = "settings.json"
#: Names of the parts.
PATTERN = "part-*.parquet"
#: In the metadata of a part: the hash of its users and their histories.
USERS_HASH = b"users_sha256"


class Parts:
    """The parts of a table, in a folder beside the file that they will be. They are asked for one after the other.

    Attributes:
        folder: The folder.
        number: How many parts have been asked for.
    """

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        self.folder, self.overwrite, self.number = folder, overwrite, 0

    def find(self, users: Sequence[Row]) -> bool:
        """Whether the next part is there already, from these users and histories. A damaged one is not there.

        Raises:
            ValueError: If it is there from others, and they may not be replaced.
        """
        try:
            found = (pq.read_schema(self._path(self.number)).metadata or {}).get(USERS_HASH)
        except FileNotFoundError:
            return False
        except (pa.ArrowException, OSError):
            found = None
        if found == _hash(users):
            self.number += 1
            return True
        if found is not None:
            self._refuse(f"part {self.number} has others than {users[0].user!r} and those after")
        self._path(self.number).unlink()
        return False

    def add(self, users: Sequence[Row], table: pa.Table) -> None:
        """Write the next part, which appears whole."""
        table = table.replace_schema_metadata({USERS_HASH: _hash(users)})
        with _whole(self._path(self.number)) as new:
            pq.write_table(table, new)
        self.number += 1

    def end(self) -> None:
        """Say that there are no more users.

        Raises:
            ValueError: If there are more parts, and they may not be removed.
        """
        more = [path for path in self.folder.glob(PATTERN) if path >= self._path(self.number)]
        if more:
            self._refuse("there were more")
        for path in more:
            path.unlink()

    def join(self, output: Path, look: Callable[[pa.Table], None]) -> None:
        """Make the parts one file, which appears whole; they do not count any more. ``look`` sees each of them.

        Raises:
            ValueError: If one is damaged.
        """
        joined = self.folder / "joined"
        with joined.open("wb") as file:
            WRITERS[output.suffix.lower()](self._tables(look), file)
        joined.replace(output)
        (self.folder / SETTINGS_NAME).unlink()

    def _tables(self, look: Callable[[pa.Table], None]) -> Iterator[pa.Table]:
        for number in range(self.number):
            try:
                table = pq.read_table(self._path(number)).replace_schema_metadata()
            except (pa.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(f"{self._path(number)} is damaged ({reason}): remove it, and go on.") from error
            look(table)
            yield table

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _refuse(self, why: str) -> None:
        if not self.overwrite:
            raise ValueError(
                f"{self.folder} has the beginning of a table for other users ({why}): go on with the same input, or "
                "replace what does not fit (overwrite=)"
            )


@contextmanager
def open_parts(output: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Parts]:
    """The parts of a file, also those that a run left that was stopped. They are removed once they are joined.

    Args:
        output: The file.
        settings: What the rows depend on besides the users, as plain values.
        overwrite: Whether to replace the file, and parts that a run with other settings or other users left.

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
    kept = folder / SETTINGS_NAME
    try:
        _check_settings(output, folder, settings, overwrite)
        if not kept.exists():
            _clear(folder)
            with _whole(kept) as new:
                new.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        yield Parts(folder, overwrite=overwrite)
    finally:
        if not any(folder.glob(PATTERN)):
            kept.unlink(missing_ok=True)
        if is_over := not kept.exists():
            _clear(folder)
            (folder / "lock").unlink(missing_ok=True)
        lock.release()
        if is_over:
            with suppress(OSError):  # it may hold files of others
                folder.rmdir()


def _check_settings(output: Path, folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse parts with other settings, or forget that they are there."""
    kept = folder / SETTINGS_NAME
    before = read_json(kept)
    other = [name for name in settings if before.get(name, ...) != settings[name]] if before else []
    if other and not overwrite:
        raise ValueError(
            f"{folder} has the beginning of a table with other settings ({', '.join(other)}): go on with those, or "
            "begin anew (overwrite=)"
        )
    if other:
        kept.unlink()
    if not before and not overwrite and output.exists():
        raise FileExistsError(f"{output} exists: overwrite= replaces it.")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written.

    Raises:
        ValueError: If its suffix says no kind of table.
        FileExistsError: If it is there, may not be replaced, and no folder of parts is beside it.
        IsADirectoryError: If it is a folder.
    """
    if output.suffix.lower() not in WRITERS:
        raise ValueError(f"{output}: expected a file that ends in {', '.join(WRITERS)}, or - for standard output.")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; expected a file.")
    if output.exists() and not overwrite and not folder_of_parts(output).exists():
        raise FileExistsError(f"{output} exists: overwrite= replaces it.")


def folder_of_parts(output: Path) -> Path:
    """Where the parts of a file are."""
    return output.with_name(output.name + PARTS)


def _clear(folder: Path) -> None:
    for pattern in (PATTERN, "*.new", "joined"):
        for path in folder.glob(pattern):
            path.unlink()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to write, which takes its place when the block ends."""
    new = path.with_name(path.name + ".new")
    yield new
    os.replace(new, path)


def _hash(users: Sequence[Row]) -> bytes:
    digest = hashlib.sha256()
    for row in users:
        digest.update(json.dumps([row.user, row.items]).encode() + b"\n")
    return digest.hexdigest().encode()
