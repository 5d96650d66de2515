"""Learning curves out of a trainer's log, and what is drawn of them."""

import builtins
import math

import pytest
from transformers import TrainerState
from transformers.utils import logging

from e4srec_hf.cards.curves import draw_learning_curves, learning_curve

LOG = [
    {"loss": 3.0, "learning_rate": 0.1, "epoch": 0.5, "step": 5},
    {"loss": 2.0, "grad_norm": 1.0, "epoch": 1.0, "step": 10, "seconds": 4.0},
    {"eval_ndcg@10": 0.25, "eval_hr@10": 0.5, "eval_mrr": 0.2, "eval_runtime": 1.0, "epoch": 1.0, "step": 10},
    {"loss": math.nan, "epoch": 2.0, "step": 20},
    {"eval_ndcg@10": 0.5, "epoch": 2.0, "step": 20},
    {"train_loss": 2.5, "train_runtime": 9.0, "epoch": 2.0, "step": 20},
]


def test_what_was_logged_at_a_step_is_one_entry():
    state = TrainerState()
    state.log_history = LOG
    assert learning_curve(state) == [
        {"epoch": 0.5, "step": 5, "loss": 3.0},
        {"epoch": 1.0, "step": 10, "loss": 2.0, "ndcg@10": 0.25, "hr@10": 0.5, "mrr": 0.2},
        {"epoch": 2.0, "step": 20, "ndcg@10": 0.5},
    ]


def lines_drawn(monkeypatch, stages, path):
    """Title of a panel to label of a line to its points."""
    from matplotlib.figure import Figure

    drawn = {}

    def spy(figure, *args, **kwargs):
        for axes in figure.axes:
            lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
            drawn[axes.get_title(loc="left")] = {label: xy for label, xy in lines.items() if label[0] != "_"}
        return save(figure, *args, **kwargs)

    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", spy)
    assert draw_learning_curves(stages, path)
    return drawn


def test_the_picture_shows_the_numbers_of_both_models(monkeypatch, tmp_path):
    state = TrainerState()
    state.log_history = LOG
    curve = learning_curve(state)
    sasrec = [{"epoch": 1.0, "step": 3, "ndcg@10": 0.1}]
    stages = {"SASRec": {"curve": sasrec, "selected": None}, "E4SRec": {"curve": curve, "selected": curve[2]}}
    drawn = lines_drawn(monkeypatch, stages, tmp_path / "curves.png")
    assert drawn == {
        "NDCG@10 on validation": {"SASRec": [[1.0, 0.1]], "E4SRec": [[1.0, 0.25], [2.0, 0.5]]},
        "Training loss": {"E4SRec": [[0.5, 3.0], [1.0, 2.0]]},
    }
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_logged_nothing_drawn(tmp_path):
    assert not draw_learning_curves({}, tmp_path / "curves.png")
    assert not draw_learning_curves({"E4SRec": {"curve": []}}, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without_matplotlib(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_matplotlib_a_warning_names_the_extra(without_matplotlib, propagating, caplog, tmp_path):
    logging.warning_once.cache_clear()
    stages = {"E4SRec": {"curve": [{"epoch": 1.0, "step": 1, "loss": 1.0}]}}
    assert not draw_learning_curves(stages, tmp_path / "curves.png")
    assert "pip install 'e4srec-hf[cards]'" in caplog.text
    assert not list(tmp_path.iterdir())
