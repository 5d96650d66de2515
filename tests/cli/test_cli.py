"""The command line: each command does what its library function does, and says so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel
from typer.testing import CliRunner

from e4srec_hf import cli
from e4srec_hf.training.saving import save_trained

PICKLE = Path(__file__).parent.parent.parent / "shared" / "data" / "Beauty_SASRec_item_embed.pkl"


@pytest.fixture
def folder(make_model, hub_here, base_dir, item_tokenizer, tmp_path):
    """A saved adapter whose base is on the Hub."""
    hub_here.commit("org/base", {file.name: file.read_bytes() for file in Path(base_dir).iterdir()})
    save_trained(make_model("org/base"), item_tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter"


def run(*arguments, status=0):
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout


def fail(monkeypatch, capsys, *arguments):
    """What a user reads of a mistake: one line, and status 1."""
    monkeypatch.setattr("sys.argv", ["e4srec", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    return capsys.readouterr().err


def test_every_command_has_help_with_an_example():
    commands = ["push", "pull", "card", "verify", "import-reference", "recommend"]
    assert all(command in run("--help") for command in commands)
    for command in commands:
        assert f"Example: e4srec {command} " in run(command, "--help")


def test_a_model_goes_to_the_hub_and_comes_back_verified(folder, hub_here, tmp_path):
    assert f"Wrote {folder / 'README.md'}" in run("card", folder, "--repo-id", "org/adapter", "--license", "mit")
    commit = hub_here.api.model_info("org/base").sha
    pushed = run("push", folder, "org/adapter", "--private", "--message", "First")
    assert hub_here.api.model_info("org/adapter").private
    assert hub_here.api.list_repo_commits("org/adapter")[0].title == "First"
    assert hub_here.api.model_info("org/adapter").sha in pushed
    assert "license: mit" in hub_here.files("org/adapter")["README.md"].decode()
    assert "org/adapter: passed" in run("verify", "org/adapter")
    assert hub_here.api.model_info("org/adapter").sha in run("pull", "org/adapter", tmp_path / "pulled")
    loaded = AutoModel.from_pretrained(tmp_path / "pulled")
    assert loaded.config.base_model_revision == commit
    hub_here.commit("org/adapter", {"extra.py": "import os"})
    assert "failed: extra.py: is a Python file that release" in run("verify", "org/adapter", status=1)
    assert "could not be checked" in run("verify", "org/nothing", status=2)


def test_recommend_prints_place_score_item_and_title(folder, hub_here):
    (folder / "item_titles.json").write_text('{"item 5": "Five"}')
    lines = run("recommend", folder, "item 3", "item 7", "--top-k", "28").splitlines()
    assert [line.split(".")[0].strip() for line in lines] == [str(place) for place in range(1, 29)]
    assert any(line.endswith("item 5  Five") for line in lines)
    assert not any("item 3" in line.split("  ")[-1].split() for line in lines)
    assert len(run("recommend", folder, "item 3", "--include-seen").splitlines()) == 10
    assert len(run("recommend", folder, "item 3", "no such", "--skip-unknown").splitlines()) == 10


def test_what_a_user_can_mend_is_one_line(folder, hub_here, tmp_path, monkeypatch, capsys):
    assert "no such" in fail(monkeypatch, capsys, "recommend", folder, "no such")
    (folder / "tokenizer.json").unlink()
    assert "lacks tokenizer.json" in fail(monkeypatch, capsys, "push", folder, "org/other")
    assert "org/nothing" in fail(monkeypatch, capsys, "pull", "org/nothing", tmp_path / "x")
    assert "needs --sequences and --base-model" in fail(
        monkeypatch, capsys, "import-reference", "table.pkl", tmp_path / "y", "--adapter", "adapter.pth"
    )
    assert not (tmp_path / "x").exists()


def test_an_item_table_of_the_reference_is_imported(tmp_path):
    table = torch.arange(12.0).reshape(4, 3)
    torch.save(table, tmp_path / "table.pkl")
    assert "4 × 3 (row 0 is padding)" in run("import-reference", tmp_path / "table.pkl", tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["item_embeddings.weight"], table)
    (tmp_path / "log.txt").write_text("u 2 1 3\n")
    run("import-reference", tmp_path / "table.pkl", tmp_path / "rows.safetensors", "--sequences", tmp_path / "log.txt")
    rows = load_file(tmp_path / "rows.safetensors")["item_embeddings.weight"]
    np.testing.assert_array_equal(rows[2:], table[[2, 1, 3]])


@pytest.mark.skipif(not PICKLE.exists(), reason="the reference's own file is not here")
def test_the_reference_s_own_item_table_is_imported(tmp_path):
    shutil.copy(PICKLE, tmp_path)
    out = run("import-reference", tmp_path / PICKLE.name, tmp_path / "table.safetensors")
    assert "12,102 × 64" in out
    assert load_file(tmp_path / "table.safetensors")["item_embeddings.weight"].shape == (12_102, 64)
