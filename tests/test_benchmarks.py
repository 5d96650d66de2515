"""The benchmarks run, and what they compare gives the same numbers. How long it takes is not tested."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from e4srec_hf import E4SRecModel
from e4srec_hf.data import build_item_tokenizer, catalogue_of, leave_one_out, load_sequences
from e4srec_hf.data.demo import make_demo_world
from e4srec_hf.evaluation import ease
from e4srec_hf.evaluation.item_transitions import GRID
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.hub.datasets import save_dataset
from e4srec_hf.training.tiny_base import make_tiny_base

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = ["--layers", "1", "--hidden_size", "64"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Forty users with 3 to 22 of 30 items."""
    path = tmp_path_factory.mktemp("log") / "log.txt"
    rows = [" ".join([f"u{n}", *(f"i{(7 * n + 3 * k) % 30}" for k in range(3 + n % 20))]) for n in range(40)]
    path.write_text("\n".join(rows) + "\n")
    return path


def load(script):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(script, BENCHMARKS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))  # as when it is run as a script
    sys.modules[script] = module
    spec.loader.exec_module(module)
    return module


def run(script, *flags, results):
    """What a benchmark writes."""
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--results", str(results), *map(str, flags)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = results.glob("*.json")
    return json.loads(found.read_text())


@pytest.mark.slow
def test_training_throughput_compares_equal_numbers(log, tmp_path):
    result = run(
        "training_throughput", "--dataset", log, *TINY, "--users", 16, "--targets_per_batch", 16, results=tmp_path
    )
    assert all(difference < 1e-5 for difference in result["largest_relative_difference"].values())
    assert result["targets"] == pytest.approx(16 * 10.5, rel=0.2)
    assert set(result["packed_against"]) == {"one row a target, 16 a batch"}


@pytest.mark.slow
def test_a_base_that_is_given_is_measured_on_some_of_the_targets(log, tmp_path):
    base = make_tiny_base(tmp_path / "reader", hidden_size=32)
    flags = ["--dataset", log, "--base-model", base, "--users", 16, "--targets_per_batch", 8, "--plain_batches", 2]
    result = run("training_throughput", *flags, "--rounds", 1, results=tmp_path / "results")
    assert (tmp_path / "results" / "training_throughput-reader-cpu.json").is_file()
    assert result["settings"]["base"]["hidden_size"] == result["settings"]["hidden_size"] == 32
    assert str(tmp_path) not in json.dumps(result)
    per_second = result["targets_per_second"]
    ratio = per_second["packed"] / per_second["one row a target, 8 a batch"]
    assert result["packed_against"]["one row a target, 8 a batch"] == pytest.approx(ratio)


@pytest.mark.slow
def test_recommend_throughput_compares_identical_recommendations(log, tmp_path):
    result = run("recommend_throughput", "--dataset", log, *TINY, "--rounds", 1, results=tmp_path)
    assert result["users_with_identical_recommendations"] == result["users_compared"] == 40
    per_second, passes = result["users_per_second"], result["forward_passes_of_the_base"]
    assert passes.keys() == per_second.keys() - {"base alone, one forward pass a user"}
    assert passes["alone"] * per_second["alone"] == pytest.approx(per_second["base alone, one forward pass a user"])


@pytest.mark.slow
def test_evaluation_is_measured_over_all_users(log, tmp_path):
    result = run("evaluation_share", "--dataset", log, *TINY, results=tmp_path)
    assert result["users_ranked"] == result["users_trained_on"] == 40
    taken = result["seconds"]
    assert result["full_ranking_of_an_epoch"] == taken["full ranking"] / taken["one packed epoch"]


@pytest.mark.slow
def test_a_profile_counts_all_time_and_no_slot_twice(log, tmp_path):
    result = run("profile_step", "--dataset", log, *TINY, "--rounds", 1, results=tmp_path)
    assert 0.5 < sum(result["share_of_time"].values()) <= 1
    assert result["time_of_a_step_as_it_is"]["as it is"] == 1
    one_pass, several = result["slots_for_one_that_is_filled"].values()
    assert one_pass >= several >= 1


@pytest.mark.slow
def test_a_large_base_is_measured_on_a_cpu_as_it_would_be_on_a_gpu(log, tmp_path):
    flags = ["--device", "cpu", *TINY, "--users", 16, "--users_to_recommend", 16, "--product_size", 128, "--bf16_only"]
    (base,) = run("large_base", "--dataset", log, *flags, results=tmp_path)["bases"]
    assert base["packed"] is True
    assert base["targets"] == pytest.approx(16 * 10.5, rel=0.2)
    assert base["tokens_per_second"] > base["targets_per_second"]


@pytest.mark.slow
def test_the_picture_shows_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    pictures = []
    for number, factor in enumerate((1, 1, 2)):
        results = tmp_path / str(number)
        shutil.copytree(BENCHMARKS / "results", results)
        recommending = json.loads((results / "recommend_throughput-cpu.json").read_text())
        recommending["users_per_second"]["alone"] *= factor
        (results / "recommend_throughput-cpu.json").write_text(json.dumps(recommending))
        command = [sys.executable, str(BENCHMARKS / "picture.py"), "--results", str(results)]
        subprocess.run([*command, "--picture", str(results / "speed.png")], check=True)
        pictures.append((results / "speed.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory")
def test_a_step_over_a_large_catalogue_holds_a_part_of_its_scores(tmp_path):
    flags = ["--items", 100_000, "--users", 64, "--users_to_recommend", 1024, "--processes", 1]
    result = run("large_catalogue", *flags, results=tmp_path)
    shares = {(m["head"], m["what"]): m["memory_of_the_naive_way"] for m in result["measurements"]}
    assert len(shares) == 4
    assert all(share < 0.6 for share in shares.values()), shares


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Settings that train in seconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(
        "sasrec_hidden_size: 16\nsasrec_epochs: 3\nmade_base_hidden_size: 32\ntuning: full\nhead: tied\n"
        'instruction: "Items: "\nresponse: ""\nper_device_train_batch_size: 16\nwarmup_steps: 2\nnum_train_epochs: 2\n'
    )
    return path


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


def test_a_twin_has_the_shape_and_the_tokenizer_of_its_base_and_weights_of_its_seed(tmp_path):
    bases = load("bases")
    base = Path(make_tiny_base(tmp_path / "base", hidden_size=32, seed=7))
    first, again, other = (bases.random_twin(base, seed, tmp_path / "cache") for seed in (0, 0, 1))
    assert first == again != other
    assert first.is_relative_to(tmp_path / "cache")
    weights = [load_file(folder / "model.safetensors") for folder in (base, first, other)]
    assert weights[0].keys() == weights[1].keys() == weights[2].keys()
    for name in weights[0]:
        if name.endswith("_proj.weight"):
            assert weights[0][name].shape == weights[1][name].shape
            assert len({w[name].sum().item() for w in weights}) == 3
    text = "The reader had: a book"
    assert len({tuple(AutoTokenizer.from_pretrained(folder)(text).input_ids) for folder in (base, first)}) == 1
    described = [bases.described(folder) for folder in (base, first)]
    assert described[0]["sha256"] != described[1]["sha256"]
    assert [found.pop("hidden_size") for found in described] == [32, 32]


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_a_small_base_of_a_family_can_carry_an_adapter(family, tmp_path):
    folder = load("starts").small_base(family, tmp_path)
    model = E4SRecModel.from_base(folder, torch.randn(12, 8))
    assert model(torch.tensor([[2, 5, 7]])).logits.shape == (1, 12)
    assert load("bases").described(folder)["model_type"] == family


def test_the_table_of_starts_sets_what_is_best_beside_what_nothing_set_gives():
    starts = load("starts")

    def trained(ndcg, first_loss):
        return SimpleNamespace(best={"ndcg@10": ndcg}, first_loss=first_loss, seconds=2.0)

    trials = [
        ({}, [trained(0.1, 4.6), trained(0.2, 9.2)]),
        ({"learning_rate": 0.1}, [trained(0.3, 1), trained(0.1, 1)]),
    ]
    found = starts.summary(trials, items=100)
    assert found["ratio_to_best"] == pytest.approx(0.15 / 0.2)
    assert found["default"]["first_loss_to_ln_items"] == pytest.approx(9.2 / np.log(100))
    line = starts.table({"llama": found}).splitlines()[-1]
    assert line == "| llama | 0.1500 | 0.2000 | 75% | 2.00 | learning_rate 0.1 |"
    alone = starts.summary(trials[:1], items=100)
    assert alone["ratio_to_best"] == 1
    assert "nothing set |" in starts.table({"llama": alone}).splitlines()[-1]


@pytest.mark.slow
def test_starts_compares_nothing_set_with_a_grid_on_equal_targets(log, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "start: {num_train_epochs: 1, logging_first_step: true, sasrec_epochs: 1}\n"
        "trials: [{}, {learning_rate: 1.0e-2}]\n"
    )
    flags = ["--dataset", log, "--families", "llama", "--grid", grid, "--cache", tmp_path / "cache"]
    result = run("starts", *flags, results=tmp_path / "results")
    found = result["found"]["llama"]
    assert [trial["changes"] for trial in found["trials"]] == [{}, {"learning_rate": 0.01}]
    assert found["default"] == found["trials"][0]
    assert found["best"] == max(found["trials"], key=lambda trial: trial["ndcg@10"])
    states = sorted((tmp_path / "cache").glob("e4srec-*/run.json"))
    assert len(states) == 2
    losses = [json.loads(state.read_text())["first_loss"] / np.log(30) for state in states]
    assert sorted(losses) == pytest.approx(sorted(trial["first_loss_to_ln_items"] for trial in found["trials"]))
    assert not list((tmp_path / "cache").glob("**/test_ranks*"))


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


@pytest.mark.parametrize("data", ["beauty", "lastfm", "yelp"])
def test_the_papers_rows_take_nothing_from_a_recipe_that_the_paper_did_not_do(data, log, tmp_path):
    quality, runs = load("quality"), load("runs")
    recipe = runs.read_recipe(BENCHMARKS.parent / "examples" / "configs" / f"{data}.yaml")
    for name in ("e4srec-paper", "sasrec-bce"):
        planned = runs.make_run(log, recipe, quality.MODELS[name].changes, 0, tmp_path)
        for stage in (planned, planned.vectors) if planned.vectors else (planned,):
            assert not {"shuffle_histories", "sasrec_shuffle_histories"} & stage.settings.keys(), name
            assert name == "sasrec-bce" or "all_targets" not in stage.settings


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


def test_items_for_selection_are_in_no_draw_that_is_reported():
    cold_worlds = load("cold_worlds")
    titles = {f"i{n}": f"title {n}" if n % 5 else None for n in range(200)}
    selection = cold_worlds.hold_out(titles, None)
    draws = [cold_worlds.hold_out(titles, seed) for seed in range(3)]
    assert all(len(draw) == 16 and not set(draw) & set(selection) for draw in draws)
    assert all(titles[item] for draw in [selection, *draws] for item in draw)
    assert draws[0] != draws[1]
    assert cold_worlds.hold_out(titles, 0) == draws[0]


def test_a_new_item_is_ranked_after_the_other_items_that_came_before_it():
    cold_worlds = load("cold_worlds")
    turns = cold_worlds.turns_of({"item_ids": [["n1", "a", "b", "n2", "n1", "c", "n2"], ["b"]]}, ["n1", "n2", "n3"])
    assert [(turn.history, sorted(turn.seen), turn.target) for turn in turns] == [(["a", "b"], ["a", "b", "n1"], "n2")]
    items = ["a", "b", "c", "n1", "n2", "n3"]
    world = cold_worlds.World(None, None, None, {}, ["n1", "n2", "n3"], turns, items)
    ranks = cold_worlds.ranks_of(world, torch.tensor([[9.0, 9.0, 5.0, 9.0, 4.0, 4.0]]))
    assert ranks == {"all": [3.0], "cold": [2.0]}  # behind c and the tie n3; what was seen is hidden


def test_what_was_trained_without_items_is_used_again_for_the_same_data_alone(tmp_path, monkeypatch):
    cold_worlds = load("cold_worlds")
    trained = []

    def train(settings, training, *_, **__):
        trained.append(training.output_dir)
        Path(training.output_dir, "sasrec").mkdir(parents=True)
        Path(training.output_dir, "sasrec", "model.safetensors").touch()

    monkeypatch.setattr(cold_worlds, "train_sasrec", train)
    sequences = make_demo_world(n_users=20, n_items=30).sequences
    items = catalogue_of(sequences)
    for cold in ([items[0]], [items[1]], [items[0]]):
        cold_worlds.trained_without(cold_worlds.without(sequences, cold, "name"), tmp_path)
    assert len(set(trained)) == len(trained) == 2
    monkeypatch.setattr(cold_worlds.SASREC, "sasrec_epochs", 6)
    cold_worlds.trained_without(cold_worlds.without(sequences, items[:1], "name"), tmp_path)
    assert len(set(trained)) == len(trained) == 3


@pytest.mark.slow
def test_new_items_are_ranked_by_titles_and_layers_are_compared(tmp_path):
    world = make_demo_world(n_users=60, n_items=60)
    save_dataset(world.sequences, tmp_path / "books", titles=world.titles)
    base = make_tiny_base(tmp_path / "tiny", hidden_size=32)
    flags = [
        "--dataset",
        tmp_path / "books",
        "--base-model",
        base,
        "--base-name",
        "Tiny",
        "--cache",
        tmp_path / "cache",
    ]
    found = run("cold_items", *flags, "--seeds", 1, "--twin", base, results=tmp_path / "results")
    assert found["settings"]["base"]["name"] == "Tiny"
    assert found["settings"]["twin"]["name"] == "Tiny with random weights"
    command = "python benchmarks/cold_items.py --dataset books --base_model tiny --twin tiny --seeds 1"
    assert found["command"] == command
    assert found["methods"]["ridge, twin"] != found["methods"]["random"]
    assert found["methods"]["ridge, twin"]["cold"]["mrr"] == found["methods"]["ridge, base_model"]["cold"]["mrr"]
    searched = run("cold_items", *flags, "--search", results=tmp_path / "search")["found"]
    assert [(row["layer"], row["pooling"]) for row in searched] == [
        (layer, pooling) for layer in (1, 2) for pooling in ("last", "mean", "both")
    ]
    assert len({row["r2_held_out"] for row in searched}) == 6


def test_the_interval_of_new_items_is_that_of_their_means():
    cold_items = load("cold_items")
    generator = np.random.default_rng(0)
    own = generator.integers(1, 40, size=200)  # an item with four turns at one rank: no more than one observation
    ranks = {
        name: {"cold": np.repeat(own + more, 4).astype(float), "all": np.repeat(own, 4).astype(float)}
        for name, more in (("ridge, base_model", 0), ("random", 5))
    }
    table = cold_items.with_intervals([ranks], [[f"i{n}" for n in range(200) for _ in range(4)]])
    found, values = table["ridge, base_model"]["cold"]["mrr"], 1 / own
    assert found["value"] == pytest.approx(values.mean())
    width = 2 * NormalDist().inv_cdf(0.975) * values.std() / 200**0.5
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.1)
    gain = table["random"]["cold"]["ndcg@10 of the base minus this"]
    assert gain["value"] > 0
    assert gain["low"] > 0
    assert table["random"]["all"]["ndcg@10 of the base minus this"]["value"] == 0
