"""``protocol="reference"`` against a plain loop that computes as the reference implementation does."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from e4srec_hf import E4SRecModel
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.data import build_item_tokenizer, leave_one_out, load_training_data, tokenize_histories, with_candidates
from e4srec_hf.evaluation import PopularityModel, evaluate_ranking, load_reports, save_reports
from e4srec_hf.evaluation.protocols import PROTOCOLS, protocol_of
from e4srec_hf.evaluation.ranking import target_ranks
from e4srec_hf.evaluation.saved_model import evaluate_saved_model
from e4srec_hf.training.saving import save_trained
from tests.cli.running import fail, run

N_ITEMS, N_USERS, SHORT = 130, 60, 7
TOP_K = [1, 5, 10, 20, 100]


@pytest.fixture(scope="module")
def world():
    """Sequences with repeats and with users of one or two items; negatives with repeats and with seen items."""
    generator = np.random.default_rng(0)
    lengths = [*generator.integers(3, 15, N_USERS - SHORT), *generator.integers(1, 3, SHORT)]
    sequences = [[str(item) for item in generator.integers(1, N_ITEMS + 1, length)] for length in lengths]
    for items in sequences[:15]:
        items[-1] = items[0]  # the target is in the history
    negatives = [
        [str(item) for item in generator.choice([i for i in range(1, N_ITEMS + 1) if str(i) != items[-1]], 99)]
        for items in sequences
    ]
    return sequences, negatives


@pytest.fixture
def ranker(make_base, text_tokenizer):
    tokenizer = build_item_tokenizer([str(item) for item in range(1, N_ITEMS + 1)])
    torch.manual_seed(0)
    model = E4SRecModel.from_base(
        make_base(), torch.randn(N_ITEMS + 2, 8), tokenizer=text_tokenizer, instruction="a", response="b", head="linear"
    )
    with torch.no_grad():
        model.score.weight[0] *= 4  # padding often comes first
    return model.eval(), tokenizer


def reference_loop(ranker, sequences, negatives=None):
    """Recall, NDCG and MRR at K as its finetune.py (negatives) and inference.py (whole catalogue) compute them."""
    model, tokenizer = ranker
    sums = {f"{name}@{k}": 0.0 for name in ("hr", "ndcg", "mrr") for k in TOP_K}
    for user, items in enumerate(sequences):
        if len(items) < 3:
            continue
        history, target = items[:-1], int(items[-1])
        with torch.no_grad():
            logits = model(**tokenize_histories(tokenizer, [history])).logits
        ratings = logits[:, [0, *range(2, N_ITEMS + 2)]]  # row 0 is padding, row i is item i
        if negatives is None:
            ratings[0, [int(item) for item in history]] = -(1 << 10)
            truth = target
        else:
            ratings = ratings[:, [target, *map(int, negatives[user])]]
            truth = 0
        places = torch.topk(ratings, k=100)[1][0].tolist()
        for k in TOP_K:
            for place, item in enumerate(places[:k], start=1):
                if item == truth:
                    sums[f"hr@{k}"] += 1
                    sums[f"ndcg@{k}"] += 1 / np.log2(place + 1)
                    sums[f"mrr@{k}"] += 1 / place
    return {name: value / len(sequences) for name, value in sums.items()}


def rows_of(sequences):
    return Dataset.from_dict({"user_id": [str(user) for user in range(len(sequences))], "item_ids": sequences})


def by_us(ranker, sequences, negatives=None, **arguments):
    test = leave_one_out(rows_of(sequences))["test"]
    if negatives is not None:
        test = with_candidates(test, {str(user): items for user, items in enumerate(negatives)})
    return evaluate_ranking(ranker[0], test, ranker[1], **arguments)


def assert_equal(report, expected):
    found = {name: estimate.value for name, estimate in report.metrics.items()}
    assert set(found) - {"mrr"} <= set(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected["mrr@100" if name == "mrr" else name], abs=1e-12), name


@pytest.mark.parametrize("sampled", [True, False])
def test_the_reference_protocol_equals_a_loop_like_the_reference_s(ranker, world, sampled):
    sequences, negatives = world
    negatives = negatives if sampled else None
    expected = reference_loop(ranker, sequences, negatives)
    report = by_us(ranker, sequences, negatives, protocol="reference", without_target=SHORT)
    assert_equal(report, expected)
    assert (report.n_users, report.n_without_target, report.exclude_seen) == (N_USERS, SHORT, not sampled)
    strict = by_us(ranker, sequences, negatives)
    assert strict.n_users == N_USERS - SHORT
    assert strict.metrics["hr@10"].value != pytest.approx(expected["hr@10"], abs=1e-3)


def test_seen_targets_among_negatives_are_found(ranker, world):
    sequences, negatives = world
    report = by_us(ranker, sequences, negatives, protocol="reference")
    assert np.isinf(by_us(ranker, sequences, negatives).ranks[:15]).all()
    assert not np.isinf(report.ranks[:15]).any()
    assert report.n_seen >= 15


def test_ties_count_for_the_target_and_strictly_against_it(world):
    tokenizer = build_item_tokenizer([str(item) for item in range(1, N_ITEMS + 1)])
    popularity = PopularityModel([["1"]], tokenizer)  # every other item has a count of zero
    rows = [["1", "2", "3"]]
    for negatives, last in ((None, N_ITEMS - 2), ([["4", "5"]], 3)):
        ranks = [by_us((popularity, tokenizer), rows, negatives, protocol=name).ranks[0] for name in PROTOCOLS]
        assert ranks == [last, 1]


def test_padding_takes_a_place_in_the_whole_catalogue_alone():
    scores, targets = torch.tensor([[5.0, 9.0, 1.0, 2.0, 3.0]]), torch.tensor([2])
    for padding, candidates, rank in ((False, None, 3), (True, None, 4), (True, torch.tensor([[4, 0]]), 2)):
        ranks = target_ranks(
            lambda rows: scores[rows],
            5,
            targets,
            candidates=candidates,
            protocol=PROTOCOLS["reference"],
            padding=padding,
        )
        assert ranks.tolist() == [rank]


def test_a_protocol_excludes_what_it_sets(ranker, world):
    sequences, negatives = world
    for exclude_seen in (True, False):
        with pytest.raises(ValueError, match="leave out exclude_seen"):
            by_us(ranker, sequences, negatives, protocol="reference", exclude_seen=exclude_seen)
    with pytest.raises(ValueError, match="protocol must be one of strict, reference, not 'loose'"):
        protocol_of("loose")


def test_reports_tables_and_cards_say_what_happens_to_seen_items(ranker, world, tmp_path):
    sequences, negatives = world
    strict = by_us(ranker, sequences, negatives)
    assert f"seen items hidden ({strict.n_seen} of the targets: misses)" in strict.protocol
    assert "The reference implementation keeps them" in strict.remark
    assert by_us(ranker, sequences, negatives, exclude_seen=False).remark == by_us(ranker, sequences).remark == ""
    reference = by_us(ranker, sequences, negatives, protocol="reference", without_target=SHORT)
    assert reference.protocol == (
        "as the reference implementation evaluates: ranked among 99 sampled negatives, seen items kept, ties count for "
        "the target, misses after place 100, 60 users, 7 of them without a target, counted as misses"
    )
    save_trained(*ranker, tmp_path)
    save_reports({"sampled": {"E4SRec": strict}, "reference": {"E4SRec": reference}}, tmp_path)
    assert load_reports(tmp_path)["reference"]["E4SRec"].protocol == reference.protocol
    refresh_model_card(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert strict.remark in card
    assert "As the reference implementation evaluates: ranked among 99" in card
    file = tmp_path / "evaluation.json"
    older = json.loads(file.read_text())
    for report in (older["sampled"]["E4SRec"], older["reference"]["E4SRec"]):
        del report["n_seen"], report["rules"]
    file.write_text(json.dumps(older))
    assert load_reports(tmp_path)["sampled"]["E4SRec"].protocol.startswith(
        "ranked among 99 sampled negatives, seen ite"
    )


@pytest.fixture
def saved(ranker, base_dir, world, tmp_path):
    """A saved model, its sequences and its negatives, as files."""
    sequences, negatives = world
    model = E4SRecModel.from_base(
        base_dir, ranker[0].item_embeddings.weight, instruction="a", response="b", head="linear"
    ).eval()
    save_trained(model, ranker[1], tmp_path / "model")
    for name, rows in (("log.txt", sequences), ("negatives.txt", negatives)):
        (tmp_path / name).write_text("".join(f"{user} {' '.join(items)}\n" for user, items in enumerate(rows)))
    return (model, ranker[1]), tmp_path


@pytest.mark.parametrize("sampled", [True, False])
def test_the_command_evaluates_by_the_reference_s_protocol(saved, world, sampled):
    ranker, folder = saved
    sequences, negatives = world
    words = ["evaluate", folder / "model", "--dataset", folder / "log.txt", "--json"]
    words += ["--negatives", folder / "negatives.txt"] if sampled else []
    out = run(*words, "--protocol", "reference")
    expected = reference_loop(ranker, sequences, negatives if sampled else None)
    content = json.loads(out[out.index("\n{\n") :])[str(folder / "model")]
    for name, estimate in content["metrics"].items():
        assert estimate["value"] == pytest.approx(expected["mrr@100" if name == "mrr" else name], abs=1e-12)
    assert "as the reference implementation evaluates" in out
    assert ("The reference implementation keeps them there" in run(*words)) == sampled
    refused = fail(*words, "--protocol", "reference", "--include-seen", status=2)
    assert "--include-seen: --protocol reference sets what happens to seen items" in refused


def test_the_reference_s_protocol_needs_its_split(saved):
    data = load_training_data(str(saved[1] / "log.txt"))
    data.facts["split"] = {"kind": "time"}
    with pytest.raises(ValueError, match="reference splits leave-one-out, but this data is split time"):
        evaluate_saved_model(saved[1] / "model", data, protocol="reference")
