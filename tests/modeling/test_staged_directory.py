"""Files are written beside and moved: whole or not at all, whoever saves, whatever dies, wherever it is mounted."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel

from e4srec_hf.modeling.saving import staged_directory


def test_a_staged_directory_keeps_what_else_stands_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("old")
    with staged_directory(tmp_path / "out") as stage:
        (stage / "deep").mkdir()
        (stage / "deep" / "new").write_text("new")
    assert (tmp_path / "out" / "kept").read_text() == "old"
    assert (tmp_path / "out" / "deep" / "new").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotADirectoryError, match="out is a file"), staged_directory(tmp_path / "out"):
        pass


def modes(folder):
    return {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")}


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0, 0o666, 0o777)])
def test_files_and_folders_get_the_mode_that_the_umask_gives(umask, file, folder, saved, tmp_path):
    before = os.umask(umask)
    try:
        _model, directory = saved()
        with staged_directory(tmp_path / "new") as stage:
            (stage / "below").mkdir()
            save_file({"a": torch.zeros(1)}, stage / "below" / "weights.safetensors")
    finally:
        os.umask(before)
    assert set(modes(directory).values()) == {oct(file)}
    assert modes(tmp_path / "new") == {"below": oct(folder), "below/weights.safetensors": oct(file)}
    assert (tmp_path / "new").stat().st_mode & 0o777 == folder


def test_a_model_is_saved_into_a_mount_point(saved, tmp_path):
    volume, script = tmp_path / "volume", tmp_path / "save.py"
    volume.mkdir()
    _model, directory = saved()
    script.write_text(
        f"""
        from transformers import AutoModel
        import e4srec_hf, torch
        model = AutoModel.from_pretrained({str(directory)!r})
        for _ in range(2):  # into an empty folder, and over a model
            model.save_pretrained({str(volume)!r})
        again = AutoModel.from_pretrained({str(volume)!r})
        assert torch.equal(again.score.weight, model.score.weight)
        """.replace("\n        ", "\n")
    )
    mounted = f"mount -t tmpfs tmpfs {volume} && {sys.executable} {script} && ls -A {volume}"
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", volume], capture_output=True).returncode:
        pytest.skip("this account may not mount")
    done = subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(path.name for path in directory.iterdir())


def test_a_folder_whose_parent_takes_no_files_is_saved_to(saved, tmp_path, monkeypatch):
    model, directory = saved()

    def refuse_parent(make=tempfile.mkdtemp, **arguments):
        assert arguments["dir"] != tmp_path, "the parent is not writable"
        return make(**arguments)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse_parent)
    model.save_pretrained(directory)


def test_a_link_to_a_folder_stays_a_link(saved, tmp_path):
    model, _directory = saved()
    (tmp_path / "link").symlink_to(tmp_path / "target")  # which does not exist yet
    for _ in range(2):
        model.save_pretrained(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target" / "config.json").is_file()


KILLED = """
import os, sys
from e4srec_hf.modeling.saving import staged_directory
with staged_directory(sys.argv[1]) as stage:
    (stage / "a").write_text("new")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kept", [{"a": "old"}, {}], ids=["over another", "a new folder"])
def test_the_next_save_clears_what_was_killed_while_it_wrote(kept, tmp_path):
    folder = tmp_path / "mo[d]el"
    for name, text in kept.items():
        folder.mkdir()
        (folder / name).write_text(text)
    assert subprocess.run([sys.executable, "-c", KILLED, folder]).returncode == -9
    assert len([*tmp_path.rglob("*e4srec-saving-*")]) == 1
    with staged_directory(folder) as stage:
        (stage / "b").write_text("newer")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"b": "newer", **kept}
    assert [*tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize("moved", [1, 2, 7, -1])
def test_a_folder_is_refused_if_a_save_died_while_its_files_moved(moved, saved, item_tokenizer, monkeypatch):
    class Killed(BaseException):
        pass

    def replace(source, target, replace=os.replace, moves=[]):  # noqa: B006 - one list for all calls
        moves.append(target)
        if len(moves) > moved % n_files:
            raise Killed
        replace(source, target)

    model, directory = saved()
    model.save_pretrained(directory, tokenizer=item_tokenizer)
    n_files = len([*directory.iterdir()])
    model.config.max_history = 7
    model.score.weight.data += 1
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            model.save_pretrained(directory, tokenizer=item_tokenizer)
    with pytest.raises(ValueError, match=r"its config\.json are of different saves"):
        AutoModel.from_pretrained(directory)
    model.save_pretrained(directory, tokenizer=item_tokenizer)
    assert AutoModel.from_pretrained(directory).config.max_history == 7


def test_nothing_is_replaced_if_a_folder_stands_in_the_place_of_a_file(saved):
    model, directory = saved()
    before = (directory / "model.safetensors").read_bytes()
    (directory / "config.json").unlink()
    (directory / "config.json").mkdir()
    model.score.weight.data += 1
    with pytest.raises(IsADirectoryError, match=r"config\.json is a folder; a file is to be saved there"):
        model.save_pretrained(directory)
    assert (directory / "model.safetensors").read_bytes() == before


MANY_SAVES = """
import sys
from e4srec_hf.files import write_json
for number in range(60):
    write_json(f"{sys.argv[1]}/{sys.argv[2]}.json", {"number": number})
"""


def test_several_processes_save_into_one_folder(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", MANY_SAVES, tmp_path, str(name)]) for name in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()} == {
        f"{name}.json": {"number": 59} for name in range(3)
    }


def test_a_save_clears_no_folder_of_one_that_is_under_way_and_follows_no_link(tmp_path):
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    (folder / ".e4srec-saving-link").symlink_to(elsewhere)
    with staged_directory(folder) as first:
        (first / "a").write_text("first")
        with staged_directory(folder) as second:
            (second / "b").write_text("second")
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"a", "b"}
    assert (elsewhere / "mine").is_file()
