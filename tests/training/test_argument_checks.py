"""Every flag at values that no training can use: one line that names the flag, before anything is done."""

import math
import os

import pytest
import yaml

from e4srec_hf.errors import UsageError
from e4srec_hf.training.argument_checks import BOUNDS, Bounds
from e4srec_hf.training.arguments import make_parser, parse_arguments

NUMERIC = [action.dest for action in make_parser()._actions if action.type in (int, float)]
#: Those of which any number has a meaning to the trainer, or which it checks itself.
WITHOUT_BOUNDS = ("max_steps", "local_rank", "save_total_limit", "ddp_bucket_cap_mb", "ddp_timeout")
CHOICES = [action.dest for action in make_parser()._actions if action.choices]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "outputs").exists()


def mistake(*flags):
    with pytest.raises((UsageError, OSError)) as found:
        parse_arguments(["--dataset", "log.txt", "--use_cpu", "true", *map(str, flags)])
    assert len(str(found.value).splitlines()) == 1
    return str(found.value)


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e400", "many"])
def test_a_number_is_used_or_refused_by_the_name_of_its_flag(name, value):
    message = ""
    try:
        parse_arguments(["--dataset", "log.txt", "--use_cpu", "true", f"--{name}={value}"])
    except UsageError as error:
        message = str(error)
    if message:
        assert f"--{name}" in message
    else:
        assert name not in BOUNDS or float(value) in BOUNDS[name]
        assert name in BOUNDS or name in WITHOUT_BOUNDS


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_there_is_not_is_named_with_its_flag(name):
    assert f"--{name}" in mistake(f"--{name}", "nonsense")


@pytest.mark.parametrize("name", ["dataset", "output_dir", "base_model", "item_embeddings", "negatives", "user_column"])
@pytest.mark.parametrize("value", ["", "  "])
def test_a_name_is_not_empty(name, value):
    assert mistake(f"--{name}={value}") == f"--{name} is empty: name something, or leave it out"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--made_base_heads", 3, "--made_base_hidden_size", 64],
            "--made_base_hidden_size must be an even multiple of",
        ),
        (["--made_base_heads", 2, "--made_base_hidden_size", 6], "but 6 is none of 2"),  # three is odd
        (["--made_base_layers", 0], "--made_base_layers 0 leaves no layer for LoRA or dropout: add --tuning full"),
        (["--made_base_layers", 0, "--tuning", "full", "--base_dropout", 0.1], "--base_dropout 0"),
        (
            ["--made_base_layers", 0, "--tuning", "full", "--base_dropout", 0, "--item_text", "true"],
            "leaves no layer that reads titles",
        ),
        (["--model", "sasrec", "--item_text", "true"], "--item_text true is for --model e4srec"),
        (["--sasrec_heads", 3], "--sasrec_hidden_size must be a multiple of --sasrec_heads, but 64 is none of 3"),
        (["--lr_scheduler_kwargs", '{"a": 1}'], "--lr_scheduler_kwargs {'a': 1}: TypeError: "),
        (["--lr_scheduler_type", "cosine_with_min_lr"], "--lr_scheduler_type cosine_with_min_lr: "),
        (["--lr_scheduler_kwargs", "[1"], "--lr_scheduler_kwargs"),
        (["--optim", "lomo"], "--optim lomo: "),
        (["--optim", "galore_adamw"], "--optim galore_adamw: "),
        (["--optim_args", "nonsense"], "--optim"),
        (["--deepspeed", "nosuch.json"], "--deepspeed nosuch.json: "),
        (["--accelerator_config", "nosuch.json"], "--accelerator_config nosuch.json: "),
        (["--report_to", "nonsense"], "--report_to"),
        (["--metric_for_best_model", "accuracy"], "--metric_for_best_model must be one of hr@1, "),
        (["--seed", 2**32], "--seed must be at least 0 and at most 4294967295, not 4294967296"),
        (["--label_smoothing_factor", 0.1], "--label_smoothing_factor must be"),
        (["--config", ""], "--config: no such file: "),
        (["--config", "."], "--config: no such file: ."),
    ],
)
def test_what_a_library_would_refuse_later_is_refused_at_once(flags, message):
    assert message in mistake(*flags)


def test_settings_at_their_bounds_pass():
    flags = ["--max_history", 1, "--item_dropout", 0, "--shuffle_histories", 1, "--seed", 2**32 - 1, "--max_steps", -1]
    parse_arguments(["--dataset", "log.txt", *map(str, flags), "--lr_scheduler_kwargs", '{"num_cycles": 2}'])
    parse_arguments(["--dataset", "log.txt", "--optim", "adafactor", "--metric_for_best_model", "eval_hr@10"])


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        (Bounds(1), [1, 5], [0, math.inf, math.nan], "at least 1"),
        (Bounds(0, above=True), [1e-9], [0, -1], "above 0"),
        (Bounds(0, 1), [0, 1], [1.1], "at least 0 and at most 1"),
        (Bounds(0, 1, below=True), [0, 0.9], [1, -0.1], "at least 0 and below 1"),
    ],
)
def test_bounds(bounds, inside, outside, words):
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in outside)
    assert str(bounds) == words


@pytest.mark.parametrize("file", ["out", "out/sasrec", "out/base"])
@pytest.mark.parametrize("below", ["", "/deeper/still"])
def test_an_output_folder_that_is_a_file_is_refused_before_any_work(file, below, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    folder = f"out{below}" if file == "out" else "out"
    assert mistake("--output_dir", folder).startswith("--output_dir out")
    assert f"{tmp_path / file} is no folder" in mistake("--output_dir", folder)


def test_an_output_folder_that_may_not_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "there")
    assert "may not be written to" in mistake("--output_dir", "there/out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "is no folder" in mistake("--output_dir", "link")


@pytest.mark.parametrize(
    "value", ["--dataset", "-", "--- Instruction:\n--x", "=", "", "a=b", "%(default)s", "@log.txt"]
)
def test_any_text_of_a_recipe_arrives_as_it_is(value, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"instruction": value, "dataset": value or "x", "max_steps": -1})
    )
    data, model, _, training = parse_arguments(["--config", "recipe.yaml"])
    assert (data.dataset, model.instruction, training.max_steps) == (value or "x", value, -1)


def test_lists_of_a_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("lora_target_modules: [a, b]\nreport_to: []\n")
    assert parse_arguments(["--config", "recipe.yaml"])[1].lora_target_modules == ["a", "b"]
