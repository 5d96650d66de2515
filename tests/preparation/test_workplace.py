"""A mount point keeps the old data set or gets the new one whole, wherever a run is stopped."""

import os
import shutil
from pathlib import Path

import pytest

from e4srec_hf.preparation import PreparationError
from e4srec_hf.preparation import workplace as module
from tests.preparation.raw_logs import bytes_of

OLD = {"preparation.json": b"old", "a.parquet": b"old", "split/x.parquet": b"old"}
NEW = {"preparation.json": b"new", "b.parquet": b"new", "split/x.parquet": b"new", "split/y.parquet": b"new"}
STEPS = {Path: ("rename", "unlink", "rmdir"), shutil: ("rmtree",)}


class Stopped(BaseException):
    """A kill or an interruption."""


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def replace(output, overwrite=True):
    with module.workplace(output, overwrite=overwrite) as (stage, _):
        write(stage, NEW)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("again", [False, True])
def test_stopped_at_any_step_nothing_is_lost(killed, again, tmp_path, monkeypatch):
    """A killed run does nothing more; an interrupted one still cleans up."""
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).parent == tmp_path)
    originals = {(owner, name): getattr(owner, name) for owner, names in STEPS.items() for name in names}
    left, inside, lock, locks = 0, False, module.FileLock, []

    def locked(*arguments, **options):
        locks.append(lock(*arguments, **options))
        return locks[-1]

    def step(original):
        def run(*arguments, **options):
            nonlocal left, inside
            if inside:  # the steps of rmtree
                return original(*arguments, **options)
            left -= 1
            if left == 0 or (killed and left < 0):
                raise Stopped
            inside = True
            try:
                return original(*arguments, **options)
            finally:
                inside = False

        return run

    def stopped_after(count, output, overwrite):
        nonlocal left
        left = count
        with monkeypatch.context() as patch:
            patch.setattr(module, "FileLock", locked)
            for (owner, name), original in originals.items():
                patch.setattr(owner, name, step(original))
            try:
                replace(output, overwrite)
            except Stopped:
                return True
            except PreparationError:
                return left <= 0
            finally:
                locks[-1].release(force=True)  # a dead process holds none
        return False

    count, seen = 0, set()
    going = True
    while going:
        count += 1
        output = tmp_path / f"{killed}{count}"
        write(output, {**OLD, "lost+found/x": b""})
        going = stopped_after(count, output, True)
        if again:  # stopped in putting it right, too
            stopped_after(2, output, False)
        with pytest.raises(PreparationError, match="--overwrite"):
            replace(output, overwrite=False)
        found = {name: content for name, content in bytes_of(output).items() if name != "lost+found/x"}
        assert found in (OLD, NEW), count
        assert (output / "lost+found" / "x").exists()
        assert not (output / module.WORK).exists()
        seen.add(found["preparation.json"])
    assert seen == {b"old", b"new"}
    assert count > len(OLD) + len(NEW)


def test_an_error_while_files_move_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    rename = Path.rename

    def full(path, target):
        if path.name == "b.parquet":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    write(tmp_path, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            replace(tmp_path)
    with pytest.raises(PreparationError, match="--overwrite"):
        replace(tmp_path, overwrite=False)
    assert bytes_of(tmp_path) == NEW
