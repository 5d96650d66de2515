"""What follows a training: a model that cannot be ranked, and facts that are missing, cost nothing that was trained."""

import json

import pytest
import torch

from e4srec_hf.cli import main
from e4srec_hf.data import build_item_tokenizer, leave_one_out, make_demo_world
from e4srec_hf.evaluation import PopularityModel, evaluate_ranking
from e4srec_hf.modeling import SASRecConfig, SASRecModel
from e4srec_hf.training.results import rank, what_went_wrong


@pytest.fixture(scope="module")
def world():
    world = make_demo_world(n_users=30, n_items=20)
    tokenizer = build_item_tokenizer(sorted(world.titles))
    return leave_one_out(world.sequences), tokenizer


def rankers(world, *, broken):
    splits, tokenizer = world
    model = SASRecModel(SASRecConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1))
    if broken:
        with torch.no_grad():
            model.item_embeddings.weight.fill_(torch.nan)
    popularity = PopularityModel(splits["train"]["item_ids"], tokenizer)
    return {"popularity": (popularity, tokenizer), "SASRec": (model, tokenizer)}


def test_a_model_whose_scores_are_nan_is_named_and_the_others_are_ranked(world):
    splits, tokenizer = world
    protocol = {"exclude_seen": True, "batch_size": 8}
    models = rankers(world, broken=True)
    reports, unranked = rank(models, {"full": splits["validation"]}, **protocol)
    assert unranked == {"SASRec"}
    alone = evaluate_ranking(models["popularity"][0], splits["validation"], tokenizer, **protocol)
    assert {name: report.metrics for name, report in reports["full"].items()} == {"popularity": alone.metrics}
    reports, unranked = rank(rankers(world, broken=False), {"full": splits["validation"]}, **protocol)
    assert (list(reports["full"]), unranked) == (["popularity", "SASRec"], set())


@pytest.mark.parametrize(
    "facts",
    [None, {}, {"stages": {}}, {"stages": {"SASRec": {"seconds": 3.0, "selected": None, "curve": []}}}],
    ids=["no file", "empty", "no stage", "older"],
)
def test_facts_that_are_missing_are_unknown(facts, world, tmp_path):
    splits, tokenizer = world
    if facts is not None:
        (tmp_path / "training.json").write_text(json.dumps(facts))
    models = rankers(world, broken=True)
    reports, unranked = rank(models, {"validation": splits["validation"]}, exclude_seen=True, batch_size=8)
    found = what_went_wrong(reports["validation"], splits["validation"], tokenizer, {"SASRec": tmp_path}, unranked)
    assert found["SASRec"].startswith("SASRec has scores that are NaN and cannot be ranked, on validation.")
    assert "--item_embeddings" not in found["SASRec"]


def test_a_training_whose_weights_became_nan_is_saved_with_a_warning(tmp_path, capfd):
    world = make_demo_world(n_users=30, n_items=20)
    rows = zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True)
    (tmp_path / "log.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in rows))
    flags = ["--dataset", tmp_path / "log.txt", "--output_dir", tmp_path / "out", "--use_cpu", "true"]
    flags += ["--learning_rate", "1e30", "--max_grad_norm", 0, "--num_train_epochs", 1, "--sasrec_epochs", 1]
    flags += ["--per_device_train_batch_size", 8, "--sasrec_hidden_size", 8]
    flags += ["--made_base_hidden_size", 8, "--made_base_layers", 1]
    main(["train", *map(str, flags)])
    told = capfd.readouterr()
    assert "| SASRec " in told.out
    assert "| E4SRec " not in told.out
    assert "WARNING: E4SRec has scores that are NaN and cannot be ranked" in told.err
    assert (tmp_path / "out" / "model.safetensors").is_file()
    warnings = json.loads((tmp_path / "out" / "evaluation.json").read_text())["warnings"]
    assert "Lower --learning_rate." in warnings[-1]
    assert "E4SRec has scores that are NaN" in (tmp_path / "out" / "README.md").read_text()
