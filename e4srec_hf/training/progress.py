"""What a training shows as it goes: a heading for each stage, a table with a row an epoch, and a bar on a terminal."""

import sys
from time import perf_counter
from typing import Any

from accelerate import PartialState
from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

COLUMNS = ("epoch", "train loss", "HR@10", "NDCG@10", "seconds")


def say(text: str) -> None:
    """Print a line, in the main process only."""
    if PartialState().is_main_process:
        print(text, flush=True)  # noqa: T201 - a training tells what it does


def warn(text: str) -> None:
    """Print a warning to stderr, in the main process only."""
    if PartialState().is_main_process:
        sys.stdout.flush()
        print(f"\nWARNING: {text}", file=sys.stderr, flush=True)  # noqa: T201 - not a matter of logging levels


def heading(title: str) -> None:
    """Print the heading of a stage."""
    say(f"\n{title}\n{'-' * len(title)}")


def show_epochs(trainer: Trainer) -> None:
    """Let a trainer print a table of epochs instead of dictionaries."""
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    trainer.add_callback(EpochTable())


class EpochTable(TrainerCallback):
    """Prints a row after each evaluation on validation; ``*`` marks one that is better than all before."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.loss: float | None = None
        self.row_began: float | None = None  # None outside a training

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print the header."""
        if not state.is_world_process_zero:
            return
        if sys.stderr.isatty() and not args.disable_tqdm:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, leave=False, unit="step")
        self.row_began = perf_counter()
        self._print("  ".join(COLUMNS))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the loss for the next row."""
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print a row."""
        if self.row_began is None or metrics is None:
            return
        cells = (
            f"{state.epoch or 0:.4g}",
            "" if self.loss is None else f"{self.loss:.4f}",
            *("" if name not in metrics else f"{metrics[name]:.4f}" for name in ("eval_hr@10", "eval_ndcg@10")),
            f"{perf_counter() - self.row_began:.1f}",
        )
        best = _best(args, state)
        mark = "  *" if best is not None and best["step"] == state.global_step else ""
        self._print("  ".join(cell.rjust(len(name)) for cell, name in zip(cells, COLUMNS, strict=True)).rstrip() + mark)
        self.row_began = perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say which epoch is kept."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        best = _best(args, state)
        if self.row_began is not None and args.load_best_model_at_end and best is not None:
            self._print(f"Epoch {best['epoch']:.4g} is kept: the best {_metric(args)} on validation.")
        self.row_began = None

    def _print(self, line: str) -> None:
        if self.bar is None:
            print(line, flush=True)  # noqa: T201 - a training tells what it does
        else:
            self.bar.write(line, file=sys.stdout)


def _metric(args: TrainingArguments) -> str:
    return str(args.metric_for_best_model).removeprefix("eval_").upper()


def _best(args: TrainingArguments, state: TrainerState) -> dict[str, Any] | None:
    """The entry of the best evaluation so far, those before a resumption among them; the first where several tie."""
    name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
    found = [entry for entry in state.log_history if name in entry]
    if not found:
        return None
    return (max if args.greater_is_better else min)(found, key=lambda entry: entry[name])
