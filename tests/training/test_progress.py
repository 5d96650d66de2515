"""What a training prints: a row an epoch, the best of them marked."""

from types import SimpleNamespace

from transformers import TrainerControl, TrainerState

from e4srec_hf.training.progress import EpochTable


def arguments(**settings):
    return SimpleNamespace(
        **{"metric_for_best_model": "ndcg@10", "greater_is_better": True, "load_best_model_at_end": True}
        | {"disable_tqdm": False}
        | settings
    )


def train(figures, before=(), **settings):
    """Let a table see epochs with these losses and NDCG@10."""
    args, control = arguments(**settings), TrainerControl()
    state = TrainerState(is_world_process_zero=True, max_steps=100)
    for epoch, ndcg in enumerate(before, start=1):
        state.log_history.append({"epoch": epoch, "step": 10 * epoch, "eval_ndcg@10": ndcg})
    table = EpochTable()
    table.on_train_begin(args, state, control)
    for epoch, (loss, ndcg) in enumerate(figures, start=1 + len(before)):
        state.epoch, state.global_step = float(epoch), 10 * epoch
        table.on_step_end(args, state, control)
        table.on_log(args, state, control, logs={"loss": loss, "learning_rate": 0.1})
        metrics = {"eval_hr@10": 0.5, "eval_ndcg@10": ndcg}
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **metrics})
        table.on_evaluate(args, state, control, metrics=metrics)
    table.on_train_end(args, state, control)
    table.on_evaluate(args, state, control, metrics={"eval_ndcg@10": 0.9})  # no row outside a training


def test_the_best_epochs_so_far_are_marked_and_the_kept_one_is_named(capsys):
    train([(5.1234, 0.1), (4.0, 0.3), (3.0, 0.2), (2.0, 0.3)])
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split("  ") == ["epoch", "train loss", "HR@10", "NDCG@10", "seconds"]
    assert [row.split()[:4] for row in rows] == [
        ["1", "5.1234", "0.5000", "0.1000"],
        ["2", "4.0000", "0.5000", "0.3000"],
        ["3", "3.0000", "0.5000", "0.2000"],
        ["4", "2.0000", "0.5000", "0.3000"],
    ]
    assert [row.endswith("*") for row in rows] == [True, True, False, False]
    assert all(row.index(cell) + len(cell) == 17 for row, cell in zip(rows, ["5.1234", "4.0000"], strict=False))
    assert last == "Epoch 2 is kept: the best NDCG@10 on validation."


def test_a_resumed_training_counts_the_epochs_before(capsys):
    train([(4.0, 0.3), (3.0, 0.2)], before=[0.1, 0.4])
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["3", "4"]
    assert not any(row.endswith("*") for row in rows)
    assert last == "Epoch 2 is kept: the best NDCG@10 on validation."


def test_nothing_but_lines_is_printed_to_a_file(capsys):
    train([(4.0, 0.3)])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.isascii()
    assert all(character.isprintable() or character == "\n" for character in printed.out)


def test_other_metrics_may_select(capsys):
    train([(4.0, 0.3), (3.0, 0.2)], metric_for_best_model="eval_hr@10")
    assert capsys.readouterr().out.splitlines()[-1] == "Epoch 1 is kept: the best HR@10 on validation."
