"""A training that failed quietly is told: figures on validation, the likely cause, and the flags to change."""

import math

import numpy as np
import pytest

from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation import RankingReport
from e4srec_hf.evaluation.metrics import Estimate
from e4srec_hf.training.outcome import ndcg_of_random_order, shortfalls

N_ITEMS = 1000


def report(ndcg, low=None):
    metrics = {"ndcg@10": Estimate(ndcg, ndcg - 0.01 if low is None else low, ndcg + 0.01)}
    metrics["hr@10"] = Estimate(2 * ndcg, 0, 1)
    return RankingReport(metrics, np.empty(0), 50, 0, True, "the whole catalogue")


def training(losses=(5.0, 4.0), ndcgs=(0.1, 0.2), not_finite=None, learning_rate=5e-5):
    curve = [
        {"epoch": epoch, "step": 10 * epoch, "loss": loss, "ndcg@10": ndcg}
        for epoch, (loss, ndcg) in enumerate(zip(losses, ndcgs, strict=True), start=1)
    ]
    return {"steps": 20, "learning_rate": learning_rate, "not_finite": not_finite, "selected": None, "curve": curve}


def wrong(facts=None, of_random_order=0.004, **ndcgs):
    reports = {name: report(*value) if isinstance(value, tuple) else report(value) for name, value in ndcgs.items()}
    return shortfalls(reports, facts or {}, of_random_order=of_random_order, n_items=N_ITEMS)


def test_what_is_better_than_all_that_is_simpler_is_not_mentioned():
    assert wrong(popularity=0.1, SASRec=0.3, E4SRec=0.4) == {}
    assert wrong(popularity=0.1, SASRec=0.3) == {}
    assert wrong(popularity=0.1, E4SRec=0.1) == {}


def test_a_model_below_a_simpler_one_is_named_with_both_figures_and_the_protocol():
    facts = {"SASRec": training(), "E4SRec": training()}
    assert wrong(facts, popularity=0.1, SASRec=0.5, E4SRec=0.25)["E4SRec"] == (
        "E4SRec is below SASRec, on validation. NDCG@10: E4SRec 0.2500 [0.2400, 0.2600] (HR@10 0.5000), SASRec 0.5000 "
        "[0.4900, 0.5100] (HR@10 1.0000); ranked among the whole catalogue, seen items hidden, 50 users. It made 20 "
        "steps with a learning rate of at most 5e-05. Its steps were probably too few, or too small. Raise "
        "--learning_rate or --num_train_epochs, or lower --per_device_train_batch_size for more steps."
    )
    both = wrong(facts, popularity=0.2, SASRec=0.1, E4SRec=0.05)
    assert list(both) == ["SASRec", "E4SRec"]
    assert both["SASRec"].startswith("SASRec is below popularity, on validation.")
    assert "Raise --sasrec_learning_rate or --sasrec_epochs, or lower --sasrec_batch_size" in both["SASRec"]
    assert both["E4SRec"].startswith("E4SRec is below SASRec and popularity, on validation.")
    assert list(wrong(facts, popularity=0.2, SASRec=0.1)) == ["SASRec"]


def test_a_difference_that_chance_explains_is_told_as_one():
    facts = {"E4SRec": training()}
    assert wrong(facts, popularity=0.1, SASRec=0.400, E4SRec=0.391) == {
        "E4SRec": "E4SRec is not above SASRec, nor told apart from it, on validation. NDCG@10: E4SRec 0.3910 [0.3810, "
        "0.4010] (HR@10 0.7820), SASRec 0.4000 [0.3900, 0.4100] (HR@10 0.8000); ranked among the whole catalogue, seen "
        "items hidden, 50 users. Chance explains the difference: another seed may turn it."
    }
    both = wrong(facts, popularity=0.5, SASRec=0.4, E4SRec=0.391)["E4SRec"]
    assert both.endswith(
        "Its steps were probably too few, or too small. Raise --learning_rate or --num_train_epochs, or "
        "lower --per_device_train_batch_size for more steps."
    )
    assert both.startswith("E4SRec is below popularity, and is not above SASRec, nor told apart from it, on validation")
    assert "nor told apart from them" in wrong(facts, popularity=0.4, SASRec=0.4, E4SRec=0.391)["E4SRec"]
    assert wrong(facts, popularity=0.1, SASRec=0.4, E4SRec=0.389)["E4SRec"].startswith("E4SRec is below SASRec, on")
    assert wrong(facts, popularity=0.1, SASRec=0.4, E4SRec=0.4) == {}


def test_given_item_vectors_without_sasrec_are_compared_with_popularity():
    found = wrong({"E4SRec": training()}, popularity=0.2, E4SRec=0.1)
    assert found["E4SRec"].startswith("E4SRec is below popularity, on validation.")
    assert "SASRec" not in found["E4SRec"]


def test_a_given_sasrec_may_be_of_other_data():
    found = wrong({"E4SRec": training()}, popularity=0.2, SASRec=0.1, E4SRec=0.3)
    assert list(found) == ["SASRec"]
    assert found["SASRec"].endswith("does --item_embeddings name a model of this data set?")


def test_a_random_order_is_recognised_also_where_popularity_is_no_better():
    facts = {"E4SRec": training()}
    assert (
        "E4SRec cannot be told from a random order (0.0040), on"
        in (wrong(facts, popularity=0.001, E4SRec=(0.005, 0.003))["E4SRec"])
    )
    assert wrong(facts, popularity=0.001, E4SRec=(0.009, 0.005)) == {}


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        ({"not_finite": 7}, "had a loss that is not a number up to step 7, on validation"),
        ({"not_finite": 7}, "Its loss did not fall: the rate is probably too high. Lower --learning_rate."),
        ({"losses": (5.0, 6.0)}, "Lower --learning_rate."),
        ({"losses": (2 * math.log(N_ITEMS),) * 2}, "Lower --learning_rate."),
        ({"losses": (math.log(N_ITEMS) + 0.4,) * 2}, "Raise --learning_rate"),  # where it started
        ({"losses": (math.log(N_ITEMS) + 0.4,), "ndcgs": (0.1,)}, "Raise --learning_rate"),
        ({"ndcgs": (0.2, 0.1)}, "it overfits or learns too fast. Lower --learning_rate, or raise --lora_dropout or"),
        (
            {"ndcgs": (0.2, 0.19)},
            "Its best epoch was not the last, so more of them will not help. Change --learning_rate.",
        ),
        ({"losses": (5.0,), "ndcgs": (0.1,)}, "Raise --learning_rate"),
        ({"losses": (), "ndcgs": ()}, "Raise --learning_rate"),  # nothing was logged
        ({"losses": (5.0,), "ndcgs": (0.1,), "learning_rate": 1000}, "Such a rate trains no model of this kind. Lower"),
    ],
)
def test_the_advice_follows_from_the_curves(facts, advice):
    assert advice in wrong({"E4SRec": training(**facts)}, popularity=0.2, E4SRec=0.1)["E4SRec"]


def test_a_loss_that_was_no_number_is_told_of_a_model_that_is_good_otherwise():
    found = wrong({"E4SRec": training(not_finite=1234)}, popularity=0.1, E4SRec=0.3)
    assert found["E4SRec"].startswith("E4SRec had a loss that is not a number up to step 1,234, on validation.")


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("n_items", [6, 40])
def test_the_figure_of_a_random_order_is_that_of_every_place_in_turn(n_items, exclude_seen):
    items = [f"i{number}" for number in range(n_items)]
    histories = [["i0", "i1", "i2"], ["i3", "i3", "unknown", "i4"], ["i0", "i5", "i0"], ["i1", "unknown"]]
    gains = []
    for *history, target in histories[:3]:
        seen = set(history) - {"unknown"} if exclude_seen else set()
        places = range(1, n_items - len(seen) + 1)
        of_place = [1 / math.log2(1 + place) if place <= 10 and target not in seen else 0 for place in places]
        gains.append(sum(of_place) / len(of_place))
    found = ndcg_of_random_order(histories, build_item_tokenizer(items), exclude_seen=exclude_seen)
    assert found == pytest.approx(sum(gains) / 3)


def test_facts_that_an_older_version_did_not_write_are_unknown():
    for facts in ({}, {"learning_rate": 5e-5}, {"steps": 3}, {"curve": []}):
        found = wrong({"E4SRec": facts}, popularity=0.2, E4SRec=0.1)["E4SRec"]
        assert "users. Its steps were probably too few, or too small. Raise --learning_rate" in found
    assert wrong({"E4SRec": {}}, popularity=0.2, E4SRec=0.3) == {}


def test_the_start_of_the_projection_is_a_flag_to_change_where_it_is_random():
    for start, named in (("random", True), ("orthogonal", False), (None, False)):
        for curve in ({}, {"ndcgs": (0.2, 0.19)}):
            facts = {"E4SRec": training(**curve) | {"projection_init": start}}
            found = wrong(facts, popularity=0.2, E4SRec=0.1)["E4SRec"]
            assert ("or start with --projection_init fitted." in found) == named


def test_one_step_is_singular():
    for steps, said in ((1, "It made 1 step with"), (2, "It made 2 steps with"), (0, "It made 0 steps with")):
        assert said in wrong({"E4SRec": training() | {"steps": steps}}, popularity=0.2, E4SRec=0.1)["E4SRec"]


def test_a_model_whose_scores_are_nan_has_a_line_without_figures_of_its_own():
    found = shortfalls(
        {"popularity": report(0.2), "SASRec": report(0.3)},
        {"E4SRec": training()},
        of_random_order=0.004,
        n_items=N_ITEMS,
        unranked={"E4SRec"},
    )
    assert list(found) == ["E4SRec"]
    assert found["E4SRec"].startswith(
        "E4SRec has scores that are NaN and cannot be ranked, on validation. NDCG@10: popularity 0.2000 ["
    )
    assert found["E4SRec"].endswith("the rate is probably too high. Lower --learning_rate.")
