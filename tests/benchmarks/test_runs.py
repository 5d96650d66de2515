"""Runs that benchmarks train: which are one, on what data, what a search sees, and how one goes on where it stopped."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.data import leave_one_out, load_sequences
from e4srec_hf.data.demo import make_demo_world
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import load, run


def test_equal_settings_are_equal_runs_and_others_are_not(log, recipe, tmp_path):
    runs = load("runs")
    settings = yaml.safe_load(recipe.read_text())

    def make(changes, seed=0):
        return runs.make_run(log, settings, changes, seed, tmp_path)

    best = make({})
    assert best.key == make({}).key
    assert best.key != make({}, seed=1).key
    assert best.key != make({"learning_rate": 1e-3}).key
    assert best.vectors.key == make({"learning_rate": 1e-3}).vectors.key == make({"model": "sasrec"}).key
    assert (
        best.vectors.key
        != make({"sasrec_dropout": 0.5}).vectors.key
        == make({"model": "sasrec", "sasrec_dropout": 0.5}).key
    )
    with_all = make({"all_targets": True})
    assert best.vectors.key != with_all.vectors.key == make({"model": "sasrec", "all_targets": True}).key
    assert make({"head": None}).settings.keys() == best.settings.keys() - {"head"}
    assert make({"item_embeddings": "random"}).key not in (best.key, make({"item_embeddings": "random"}, seed=1).key)
    drawn = np.load(make({"item_embeddings": "random"}).vectors)
    assert drawn.shape == (32, 16)
    assert drawn.std() == pytest.approx(0.02, rel=0.1)
    np.save(tmp_path / "mine.npy", drawn)
    assert make({"item_embeddings": str(tmp_path / "mine.npy")}).vectors == tmp_path / "mine.npy"
    for name in ("seed", "rank_test", "output_dir"):
        with pytest.raises(ValueError, match=f"{name} cannot be set for a run"):
            make({name: 1})


def test_a_run_on_another_base_is_another_run_wherever_the_base_lies(log, recipe, tmp_path):
    runs, settings = load("runs"), yaml.safe_load(recipe.read_text())
    bases = [Path(make_tiny_base(tmp_path / str(seed), seed=seed)) for seed in range(2)]
    shutil.copytree(bases[0], tmp_path / "moved")

    def key(base):
        return runs.make_run(log, settings, {}, 0, tmp_path, base).key

    assert key(bases[0]) == key(tmp_path / "moved")
    assert len({key(base) for base in (None, *bases)}) == 3
    assert "--base_model" in runs.make_run(log, settings, {}, 0, tmp_path, bases[0]).command(tmp_path)
    assert "--base_model" not in runs.make_run(log, settings, {}, 0, tmp_path).command(tmp_path)


def test_movielens_is_prepared_into_the_cache(tmp_path):
    as_text = load("raw_data").as_text
    (tmp_path / "ml").mkdir()
    generator = np.random.default_rng(0)
    ratings = [(user, item, 3, int(generator.integers(1, 9999))) for user in range(1, 9) for item in range(1, 9)]
    ratings += [(9, item, 5, 1) for item in range(1, 5)]  # a user with four ratings, and an item with two
    ratings += [(1, 99, 5, 9999), (2, 99, 5, 9999)]
    lines = ["\t".join(map(str, (user, item, stars, 880000000 + time))) for user, item, stars, time in ratings]
    (tmp_path / "ml" / "u.data").write_text("\n".join(lines) + "\n")
    (tmp_path / "cache").mkdir()
    text = as_text(tmp_path / "ml", tmp_path / "cache")
    assert text == tmp_path / "cache" / "ml.txt"
    expected = {
        str(user): [
            str(item)
            for _, item, _, _ in sorted((r for r in ratings if r[0] == user and r[1] != 99), key=lambda r: r[3])
        ]
        for user in range(1, 9)
    }
    assert {user: items for user, *items in map(str.split, text.read_text().splitlines())} == expected
    assert as_text(text, tmp_path / "cache") == text
    with pytest.raises(FileNotFoundError, match="there is no file"):
        as_text(tmp_path / "cache", tmp_path / "cache")


def test_generated_readers_are_those_of_the_demo(tmp_path):
    text = load("raw_data").as_text(tmp_path / "demo-40", tmp_path / "cache")
    world = make_demo_world(n_users=40).sequences
    rows = [line.split() for line in text.read_text().splitlines()]
    assert rows == [[row["user_id"], *row["item_ids"]] for row in world]


@pytest.mark.slow
def test_a_search_looks_at_validation_only(log, recipe, tmp_path):
    search = tmp_path / "search.yaml"
    search.write_text(
        f"start: {json.dumps(yaml.safe_load(recipe.read_text()))}\n"
        "trials: [{model: sasrec}, {learning_rate: [1.0e-3, 1.0e-2]}, {learning_rate: 1.0e-3}]\n"
    )
    flags = ["--dataset", log, "--search", search, "--cache", tmp_path / "cache"]
    result = run("search", *flags, results=tmp_path / "results")
    changes = [trial["changes"] for trial in result["trials"]]
    assert changes == [{"model": "sasrec"}, {"learning_rate": 1e-3}, {"learning_rate": 1e-2}]
    validation = leave_one_out(load_sequences(str(log)))["validation"]
    for trial in result["trials"]:
        folder = tmp_path / "cache" / f"{trial['kind']}-{trial['key']}"
        saved = next(folder.glob("**/model.safetensors")).parent
        ranked = evaluate_ranking(AutoModel.from_pretrained(saved), validation, AutoTokenizer.from_pretrained(saved))
        assert trial["ndcg@10"] == pytest.approx(ranked.metrics["ndcg@10"].value, abs=1e-6)
        assert not list(folder.glob("**/test_ranks*"))
        assert "Test targets" not in (folder / "log.txt").read_text()
        if (folder / "evaluation.json").exists():
            figures = json.loads((folder / "evaluation.json").read_text())
            assert figures.keys() <= {"fingerprint", "validation", "warnings"}  # no figure on the test targets


@pytest.mark.slow
def test_an_interrupted_run_goes_on_from_its_last_whole_checkpoint(log, recipe, tmp_path, monkeypatch):
    runs = load("runs")
    whole = runs.make_run(log, yaml.safe_load(recipe.read_text()), {"model": "sasrec"}, 0, tmp_path / "whole")
    expected = whole.train(tmp_path / "whole")
    folder = whole.folder(tmp_path / "cut")
    kept = runs.subprocess.run

    def cut(command, **kwargs):
        """As if the machine stopped after the first epoch, while the second checkpoint was being written."""
        kept([*command, "--save_total_limit", "9"], **kwargs)
        (_, *later) = sorted(folder.glob("sasrec/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        for path in later:
            (path / "trainer_state.json").unlink()
        assert len(later) == 2
        return subprocess.CompletedProcess(command, 137)

    monkeypatch.setattr(runs.subprocess, "run", cut)
    begin = time.time()
    with pytest.raises(RuntimeError, match="failed with 137"):
        whole.train(tmp_path / "cut")
    assert not (folder / "run.json").exists()
    last_saved = max(path.stat().st_mtime for path in folder.glob("sasrec/*/trainer_state.json"))
    monkeypatch.setattr(runs.subprocess, "run", kept)
    resumed = whole.train(tmp_path / "cut")
    clock = json.loads((folder / "clock.json").read_text())
    assert clock["spent"] == pytest.approx(last_saved - begin, abs=1)  # as far as it went, and no more
    assert clock["spent"] < resumed.seconds < time.time() - begin
    assert resumed.curve == expected.curve
    weights = [(found.folder / "model.safetensors").read_bytes() for found in (expected, resumed)]
    assert weights[0] == weights[1]
