"""The table of quality: what its rows train, and how they are compared."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.data import build_item_tokenizer, catalogue_of, leave_one_out, load_sequences
from e4srec_hf.evaluation import ease
from e4srec_hf.evaluation.item_transitions import GRID
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import BENCHMARKS, load, run


@pytest.mark.slow
def test_quality_ranks_what_the_recipe_trains_and_trains_nothing_twice(log, recipe, tmp_path):
    models = "popularity,ease,item-transitions,sasrec-best,e4srec-best,no-base,random-vectors"
    flags = ["--dataset", log, "--config", recipe, "--models", models, "--seeds", 2, "--cache", tmp_path / "cache"]
    result = run("quality", *flags, results=tmp_path / "results")
    assert list(result["models"]) == models.split(",")
    settings_of = {"popularity": set(), "ease": {"penalty"}, "item-transitions": GRID.keys()}
    for name, found in result["models"].items():
        hidden = found["test"]["seen hidden"]["hr@10"]
        assert hidden["mean"] == pytest.approx(sum(hidden["seeds"]) / len(hidden["seeds"]))
        for trained in found["runs"]:
            if found["kind"] == "baseline":
                assert trained["settings"].keys() == settings_of[name]
                continue
            assert trained["validation"]["ndcg@10"] == max(epoch["ndcg@10"] for epoch in trained["curve"])
            assert len(trained["curve"]) == (3 if found["kind"] == "sasrec" else 2), name
    keys = {run["key"] for run in result["models"]["sasrec-best"]["runs"]}
    assert {run["item_vectors"] for run in result["models"]["e4srec-best"]["runs"]} == keys
    assert all(run["item_vectors"].startswith("random-") for run in result["models"]["random-vectors"]["runs"])

    # the figures are those of the saved model, ranked one user at a time by sorting
    (run_of_first_seed, _) = result["models"]["e4srec-best"]["runs"]
    folder = tmp_path / "cache" / f"e4srec-{run_of_first_seed['key']}"
    model, items = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    hits = []
    for line in log.read_text().splitlines():
        *history, target = items.convert_tokens_to_ids(line.split()[1:])
        scores = model(torch.tensor([history])).logits[0]
        scores[[0, 1, *history]] = -torch.inf
        hits.append(target not in history and target in scores.argsort(descending=True)[:10])
    assert sum(hits) / len(hits) == result["models"]["e4srec-best"]["test"]["seen hidden"]["hr@10"]["seeds"][0]

    weights = sorted((tmp_path / "cache").glob("**/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    shutil.rmtree(tmp_path / "results")
    assert run("quality", *flags, results=tmp_path / "results")["models"] == result["models"]
    assert [path.stat().st_mtime_ns for path in weights] == before


@pytest.mark.slow
def test_a_pretrained_base_stands_beside_its_random_twin(log, recipe, tmp_path):
    base, cache = Path(make_tiny_base(tmp_path / "reader", hidden_size=32, seed=7)), tmp_path / "cache"
    on_base = tmp_path / "on-base.yaml"
    on_base.write_text(recipe.read_text().replace("tuning: full", "tuning: lora"))
    models = "popularity,sasrec-best,e4srec-twin,e4srec-pretrained"
    flags = ["--dataset", log, "--config", recipe, "--pretrained-config", on_base, "--models", models, "--seeds", 1]
    flags += ["--base-model", base, "--base-name", "Reader 1M", "--cache", cache]
    result = run("quality", *flags, results=tmp_path / "results")
    assert result["settings"]["base"]["name"] == "Reader 1M"
    assert str(tmp_path) not in json.dumps(result)
    of_twin, of_base = (result["models"][f"e4srec-{name}"] for name in ("twin", "pretrained"))
    assert of_base["model"] == "E4SRec on Reader 1M"
    assert of_twin["model"] == "E4SRec on the architecture of Reader 1M with random weights"
    assert [run["settings"] for run in of_twin["runs"]] == [run["settings"] for run in of_base["runs"]]
    assert [run["item_vectors"] for run in of_twin["runs"]] == [run["item_vectors"] for run in of_base["runs"]]

    configs, weights = [], []
    for name in ("e4srec-pretrained", "e4srec-twin"):
        for trained in result["models"][name]["runs"]:
            adapter = json.loads((cache / f"e4srec-{trained['key']}" / "config.json").read_text())
            configs.append(json.loads((Path(adapter["base_model_name_or_path"]) / "config.json").read_text()))
            weights.append(load_file(Path(adapter["base_model_name_or_path"]) / "model.safetensors"))
    assert configs[0] == configs[1]
    assert weights[0].keys() == weights[1].keys()
    assert not any(
        torch.equal(weights[0][name], weights[1][name]) for name in weights[0] if name.endswith("_proj.weight")
    )

    differences = result["difference_of_pretrained_from"]
    assert set(differences) == {"popularity", "sasrec-best", "e4srec-twin"}
    means = {name: found["test"]["seen hidden"]["ndcg@10"]["mean"] for name, found in result["models"].items()}
    for name, difference in differences.items():
        expected = means["e4srec-pretrained"] - means[name]
        assert difference["ndcg@10"]["difference"] == pytest.approx(expected, abs=1e-9)


def test_a_row_without_a_recipe_sets_nothing(log, tmp_path):
    quality = load("quality")
    arguments = SimpleNamespace(
        models=["popularity", "sasrec-default", "e4srec-default", "e4srec-default-pretrained"],
        base_model=log.parent / "base.gguf",
        dataset=log,
        seeds=1,
        cache=tmp_path,
    )
    arguments.base_model.write_bytes(b"not read")
    planned = quality.plan(arguments)
    assert [run.settings for run in planned.values()] == [{}, {}, {}]
    assert [run.base for run in planned.values()] == [None, None, arguments.base_model]
    sasrec, made, given = planned.values()
    assert made.vectors == sasrec == given.vectors


@pytest.mark.parametrize("data", ["beauty", "lastfm", "yelp"])
def test_the_papers_rows_take_nothing_from_a_recipe_that_the_paper_did_not_do(data, log, tmp_path):
    quality, runs = load("quality"), load("runs")
    recipe = runs.read_recipe(BENCHMARKS.parent / "examples" / "configs" / f"{data}.yaml")
    for name in ("e4srec-paper", "sasrec-bce"):
        planned = runs.make_run(log, recipe, quality.MODELS[name].changes, 0, tmp_path)
        for stage in (planned, planned.vectors) if planned.vectors else (planned,):
            assert not {"shuffle_histories", "sasrec_shuffle_histories"} & stage.settings.keys(), name
            assert name == "sasrec-bce" or "all_targets" not in stage.settings


def test_the_best_is_chosen_on_validation_and_never_among_the_ablations():
    quality = load("quality")
    names = {"sasrec-a": [0.2], "sasrec-b": [0.1, 0.5], "e4srec-a": [0.3], "e4srec-b": [0.1], "no-base": [0.9]}
    results = {
        name: {
            "kind": "sasrec" if name.startswith("sasrec") else "e4srec",
            "runs": [{"validation": {"ndcg@10": v}} for v in values],
        }
        for name, values in names.items()
    }
    assert quality.best_on_validation(results, "sasrec") == "sasrec-b"
    assert quality.best_on_validation(results, "e4srec") == "e4srec-a"
    ranks = {name: [{"seen hidden": np.array([1.0, 30.0, 3.0 + len(name)])}] for name in names}
    found = quality.compare(results, ranks)
    assert found["best_sasrec_on_validation"] == "sasrec-b"
    assert set(found["difference_from_best_sasrec"]) == {"e4srec-a", "e4srec-b", "no-base"}
    assert found["difference_from_best_sasrec"]["e4srec-a"]["hr@10"]["difference"] == pytest.approx(-1 / 3 + 1 / 3)
    assert quality.compare({"sasrec-a": results["sasrec-a"]}, ranks) == {}


def test_the_paired_bootstrap_agrees_with_the_normal_interval():
    quality_report = load("quality_report")
    generator = np.random.default_rng(3)
    ours, theirs = (
        [{"seen hidden": generator.integers(1, top, size=4000).astype(float)} for _ in range(2)] for top in (38, 40)
    )
    found = quality_report.paired_bootstrap(ours, theirs, "seen hidden", "hr@10")
    values = [np.mean([(ranks["seen hidden"] <= 10) for ranks in model], axis=0) for model in (ours, theirs)]
    difference = values[0] - values[1]
    half = 1.96 * difference.std() / len(difference) ** 0.5
    assert found.difference == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=1e-3)
    assert found.share_above_zero == pytest.approx(NormalDist(0, half / 1.96).cdf(difference.mean()), abs=0.02)


def test_ease_is_the_regression_of_each_item_on_the_others():
    generator = np.random.default_rng(0)
    sequences = [generator.choice(list("abcdef"), size).tolist() for size in generator.integers(1, 9, 40)]
    items = build_item_tokenizer(list("abcdef"))
    gram = ease.gram_matrix([*sequences, ["unknown", "a"]], items)
    model = ease.EASE(gram, penalty=3.0)
    users = np.array([[item in sequence for item in "abcdef"] for sequence in [*sequences, ["a"]]], dtype=float)
    history = {"input_ids": torch.tensor([[1, 0, 2, 3, 3, 5]]), "attention_mask": torch.tensor([[0, 0, 1, 1, 1, 0]])}
    scores = model(**history).logits[0]
    for target in range(6):
        others = [item for item in range(6) if item != target]
        gram = users[:, others].T @ users[:, others] + 3.0 * np.eye(5)
        weights = np.zeros(6)
        weights[others] = np.linalg.solve(gram, users[:, others].T @ users[:, target])
        assert scores[2 + target].item() == pytest.approx(weights[[0, 1]].sum(), abs=1e-5)


def test_ease_has_the_penalty_that_is_best_on_validation(log):
    sequences = load_sequences(str(log))
    splits, items = leave_one_out(sequences), build_item_tokenizer(catalogue_of(sequences))
    model, chosen = ease.best_ease(splits["train"], splits["validation"], items)
    gram = ease.gram_matrix(splits["train"]["item_ids"], items)
    figures = {}
    for penalty in ease.PENALTIES:
        ranked = evaluate_ranking(ease.EASE(gram, penalty), splits["validation"], items)
        figures[penalty] = ranked.metrics["ndcg@10"].value
    assert len(set(figures.values())) > 1
    assert chosen["ndcg@10"] == figures[chosen["penalty"]] == max(figures.values())
    assert torch.equal(model.weights, ease.EASE(gram, chosen["penalty"]).weights)


@pytest.mark.slow
def test_mistakes_are_found_before_anything_is_trained(log, tmp_path):
    for script, flags, message in (
        ("quality", ["--dataset", tmp_path / "none.txt"], "there is no file"),
        ("quality", ["--dataset", log], "there is no recipe"),
        ("quality", ["--dataset", log, "--models", "e4srec"], "there is no model e4srec; there are popularity"),
        ("quality", ["--dataset", log, "--seeds", 0], "must be at least 1"),
        ("quality", ["--dataset", log, "--models", "e4srec-twin"], "e4srec-twin need a pretrained base"),
        ("quality", ["--dataset", log, "--base-model", tmp_path], "is no folder with a config.json"),
        ("search", ["--dataset", log, "--search", tmp_path / "none.yaml"], "there is no file"),
    ):
        command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--cache", str(tmp_path / "cache")]
        done = subprocess.run([*command, *map(str, flags)], check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "cache").exists()
