"""The commands together: help that is fast, words that were mistyped, tracebacks for those who ask."""

import json
import os
import subprocess
import sys

import pytest

from e4srec_hf.cli.app import _with_flags
from e4srec_hf.data import load_sequences
from e4srec_hf.errors import run_command
from tests.cli.running import fail, run, run_both

COMMANDS = ["prepare", "train", "evaluate", "recommend", "push", "pull", "card", "verify", "import-reference"]
HEAVY = ["torch", "transformers", "datasets", "duckdb", "bitsandbytes", "peft", "huggingface_hub"]


def loaded_by(code, **environment):
    """Which heavy modules some code imports, in a Python of its own."""
    script = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | environment, check=True
    )
    assert "bitsandbytes" not in done.stderr
    assert "gemm_4bit" not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def call(*words):
    return f"from e4srec_hf.cli import main\ntry:\n    main({list(words)})\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize("command", [None, *(name for name in COMMANDS if name != "train")])
def test_help_imports_nothing_heavy(command):
    words = ["--help"] if command is None else [command, "--help"]
    assert loaded_by(call(*words)) == []


def test_tab_completion_imports_nothing_heavy():
    found = {"_E4SREC_COMPLETE": "complete_bash", "COMP_WORDS": "e4srec pu", "COMP_CWORD": "1"}
    assert loaded_by(call(), **found) == []


def test_the_package_itself_imports_nothing_heavy():
    assert loaded_by("import e4srec_hf, e4srec_hf.cli") == []


def test_the_trainer_is_imported_without_bitsandbytes():
    assert "bitsandbytes" not in loaded_by("from e4srec_hf import RankingTrainer")


def test_every_command_has_help_with_an_example():
    shown = run("--help")
    for command in COMMANDS:
        assert f"  {command} " in shown
        if command != "train":  # its help is that of the settings of a training
            assert f"Example: e4srec {command} " in run(command, "--help")
    assert run() == shown


def test_help_of_train_lists_its_settings():
    shown = run("train", "--help")
    assert shown.startswith("usage: e4srec train ")
    assert all(flag in shown for flag in ("--dataset", "--sasrec_epochs", "--lora-r", "--learning_rate", "--config"))


def test_mistyped_words_get_a_suggestion():
    assert "did you mean --top-k?" in fail("recommend", "--top_j", "3", "x", status=2).lower()
    assert fail("recomend", status=2) == "e4srec: recomend: did you mean recommend?"
    assert fail("qwertyuiop", status=2) == "e4srec: qwertyuiop: there is no such command"
    assert "Missing option '--dataset'" in fail("evaluate", "outputs/demo", status=2)
    assert "'--top-k'" in fail("recommend", "x", "--top-k", "many", status=2)


def test_an_error_of_the_program_has_a_traceback():
    def broken(argv):
        raise KeyError("a mistake in the code")

    with pytest.raises(KeyError):
        run_command("e4srec", broken, [])


@pytest.mark.parametrize("asked", ["--debug", "E4SREC_DEBUG"])
def test_whoever_asks_gets_the_traceback(asked, monkeypatch):
    words = ["recommend", "./nowhere", "a"]
    assert fail(*words) == "e4srec: no such folder: ./nowhere"
    if asked == "--debug":
        words.insert(1, asked)
    else:
        monkeypatch.setenv(asked, "1")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run(*words)


def test_the_debugging_flag_of_transformers_is_left_to_it():
    found = []
    for words in (["--debug", "underflow_overflow"], ["--debug", "--seed", "1"], ["--", "--debug"]):
        run_both(*words, command=lambda words: run_command("e4srec", found.append, words))
    assert found == [["--debug", "underflow_overflow"], ["--seed", "1"], ["--", "--debug"]]


def test_several_lines_of_an_error_become_one(monkeypatch):
    def offline(argv):
        raise OSError("We could not connect.\n  Check your connection.\n")

    printed = run_both(status=1, command=lambda words: run_command("train.py", offline, words))[1]
    assert printed.splitlines() == [printed.strip()]
    assert printed.startswith("train.py: We could not connect. Check your connection.")
    monkeypatch.setenv("RANK", "1")
    printed = run_both(status=1, command=lambda words: run_command("train.py", offline, words))[1]
    assert printed.startswith("train.py (process 1): We could not connect.")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["push", "", "org/x"], "an argument"),
        (["card", ""], "an argument"),
        (["prepare", "table", "log.csv", "--separator", ""], "--separator"),
        (["recommend", "outputs/demo", "--base-model", "", "a"], "--base-model"),
        (["evaluate", "outputs/demo", "--dataset", ""], "--dataset"),
        (["prepare", "text", "log.txt", "--output", ""], "--output"),
        (["pull", "org/x", ""], "an argument"),
    ],
)
def test_an_empty_word_is_not_the_folder_one_is_in(words, what):
    assert fail(*words, status=2) == f"e4srec: {words[0]}: {what} is empty: is a variable of the shell not set?"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("runs/sequences=abc/x: no such file", None),
        ("runs/sequences=1/x: no such file", None),
        ("'my runs/a sequences=1/x' is no folder", None),
        ("sequences=1/x: no such file", None),
        ("C:\\runs\\sequences=1: no such file", None),
        ("other-sequences=1 and more.sequences=2", None),
        ("pass sequences=<file>, please", "pass --sequences, please"),
        ("it isn't there: pass sequences= of the training", "it isn't there: pass --sequences of the training"),
        ("sequences='a b' was passed", "--sequences 'a b' was passed"),
        ("sequences=5 and base_model=True", "--sequences 5 and --base-model True"),
        ("pass base_model=<id> to from_pretrained.", "pass --base-model."),
    ],
)
def test_paths_of_the_user_are_not_rewritten(message, shown):
    words = ["import-reference", "a.pkl", *(["sequences=1/x"] if message.startswith("sequences=1/x") else [])]
    assert _with_flags(message, words) == (shown or message)


def test_a_value_is_spelled_in_help_as_it_is_listed():
    shown = run("prepare", "--help")
    assert "leave-one-out by default" in " ".join(shown.split())
    assert "leave_one_out" not in shown


def test_a_blank_separator_and_no_mark_of_missing_values_are_values(tmp_path):
    for name, separator in (("tab", "\t"), ("blank", " ")):
        rows = (("user_id", "item_id", "timestamp"), *(("NA", f"i{n}", str(1_500_000_000 + n)) for n in range(5)))
        (tmp_path / name).write_text("".join(separator.join(row) + "\n" for row in rows))
        core = ("--user-core", "0", "--item-core", "0", "--output", tmp_path / f"of-{name}")
        words = ("prepare", "table", tmp_path / name, "--separator", separator, "--missing", "", *core)
        assert run_both(*words)[1] is not None
        assert load_sequences(str(tmp_path / f"of-{name}"))["user_id"][:] == ["NA"]


def test_a_folder_to_write_to_is_checked_before_anything_is_fetched(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/deeper"):
        shown = fail("pull", "org/x", tmp_path / name)
        assert shown == f"e4srec: the folder {tmp_path / name}: {tmp_path / 'file'} is no folder; choose another one"


def test_a_seed_is_not_negative():
    shown = fail("evaluate", "outputs/demo", "--dataset", "log.txt", "--negatives-seed", "-1", status=2)
    assert "'--negatives-seed'" in shown
