"""``e4srec push``, ``pull``, ``card`` and ``verify``: each does what its library function does, and says so."""

import os
from functools import partialmethod

import pytest
from huggingface_hub import hf_api
from transformers import AutoModel

from e4srec_hf.evaluation import save_reports
from tests.cli.running import fail, run


def test_a_model_goes_to_the_hub_and_comes_back_verified(folder, hub_here, tmp_path):
    assert f"Wrote {folder / 'README.md'}" in run("card", folder, "--repo-id", "org/adapter", "--license", "mit")
    commit = hub_here.api.model_info("org/base").sha
    pushed = run("push", folder, "org/adapter", "--private", "--message", "First")
    assert hub_here.api.model_info("org/adapter").private
    files = [content for name, content in hub_here.files("org/adapter").items() if name.endswith(".py")]
    n_lines = sum(len(content.decode().splitlines()) for content in files)
    assert f"Code in the repo: {len(files)} Python files, {n_lines:,} lines" in pushed
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


def test_what_a_user_can_mend_is_one_line(folder, hub_here, tmp_path):
    (folder / "tokenizer.json").unlink()
    assert "lacks tokenizer.json" in fail("push", folder, "org/other")
    assert "org/nothing" in fail("pull", "org/nothing", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("with_figures", [True, False])
def test_weights_that_are_cut_off_are_one_line_of_each_command(with_figures, folder, hub_here):
    if with_figures:
        save_reports({}, folder)
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    assert f"{weights} is not a complete safetensors file" in fail("push", folder, "org/other")
    assert not hub_here.api.repo_exists("org/other")
    if with_figures:
        assert f"{weights} is not a complete safetensors file" in fail("card", folder)
    assert "failed: model.safetensors: is not a complete safetensors file" in run("verify", folder, status=1)


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "{", "3"], ids=["a list", "deep", "cut off", "a number"])
def test_a_config_that_is_none_is_one_line_of_each_command(content, folder, hub_here):
    (folder / "config.json").write_text(content)
    assert f"{folder / 'config.json'} " in fail("push", folder, "org/other")
    assert f"{folder / 'config.json'} " in fail("card", folder)
    assert "failed: config.json: " in run("verify", folder, status=1)


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(folder, hub_here, monkeypatch):
    def asked(request):
        raise AssertionError(request)

    monkeypatch.setattr("huggingface_hub.file_download._request_wrapper", asked, raising=False)
    mistyped = folder.with_name("adaptor")
    message = f"no such folder: {mistyped}; did you mean {folder}?"
    assert fail("push", mistyped, "org/other") == f"e4srec: {message}"
    assert fail("card", mistyped) == f"e4srec: {message}"
    assert message in fail("verify", mistyped, status=2)
    assert fail("recommend", mistyped, "item 3") == f"e4srec: {message}"


def test_a_hub_out_of_reach_is_named(folder, tmp_path, monkeypatch):
    address = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    monkeypatch.setattr(hf_api.HfApi, "__init__", partialmethod(hf_api.HfApi.__init__, endpoint=address))
    reason = f"the Hub at {address} cannot be reached ([Errno 111] Connection refused)"
    assert fail("push", folder, "org/other") == f"e4srec: {reason}: nothing was pushed"
    assert fail("pull", "org/other", tmp_path / "x") == f"e4srec: {reason}: nothing was pulled"
    assert not (tmp_path / "x").exists()
    assert reason in run("verify", "org/other", status=2)
