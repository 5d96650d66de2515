"""What a user reads of a mistake, in every encoding, and where nobody reads."""

import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress

import pytest
import torch

from e4srec_hf.cli import main
from e4srec_hf.errors import is_mistake, naming, one_line, run_command
from e4srec_hf.terminal import escape_what_cannot_be_encoded
from tests.cli.running import run_both

HINT = " (--debug or E4SREC_DEBUG=1 shows the traceback)"


def start(code, redirection="", **environment):
    """Run Python in a shell: its exit status and what it printed to stderr."""
    script = f"\"{sys.executable}\" -c 'import sys\nfrom e4srec_hf.errors import run_command\n{code}' {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], capture_output=True, check=False, env=os.environ | environment
    )
    return done.returncode, done.stderr.decode(errors="surrogateescape")


@pytest.fixture
def standard_streams(monkeypatch, tmp_path):
    """Real files as stdout and stderr, in an encoding."""

    def make(encoding, errors="strict"):
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, open(tmp_path / name, "w", encoding=encoding, errors=errors))  # noqa: SIM115
        return tmp_path

    return make


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "shift_jis", "utf-8"])
def test_help_of_every_command_and_any_text_is_written_in_any_encoding(encoding, standard_streams):
    folder = standard_streams(encoding)
    for words in ([], *([name, "--help"] for name in ("prepare", "train", "evaluate", "recommend", "push", "pull"))):
        with suppress(SystemExit):
            main(words)
    sys.stdout.write("水 ✓ ü \udcfc\n")
    sys.stdout.close()
    printed = (folder / "stdout").read_text(encoding=encoding)
    assert "--per_device_train_batch_size" in printed
    assert printed.count("Usage: ") + printed.count("usage: ") == 7
    expected = [c.encode(encoding, "backslashreplace").decode(encoding) for c in ("水", "✓", "ü", "\udcfc")]
    assert printed.splitlines()[-1].split() == expected


def test_a_handler_that_was_asked_for_is_kept(standard_streams):
    standard_streams("ascii", errors="xmlcharrefreplace")
    escape_what_cannot_be_encoded()
    assert sys.stdout.errors == "xmlcharrefreplace"


@pytest.mark.parametrize("n_lines", [1, 10_000])
def test_whoever_reads_no_further_gets_no_error(n_lines):
    code = f'run_command("x", lambda words: print("a line\\n" * {n_lines}))'
    status, errors = start(code, "| (exec <&-; sleep 0.5)")
    assert (status in (0, 1), errors) == (True, "")
    assert start('run_command("x", lambda words: sys.exit(print(1)))', "| (exec <&-; sleep 0.5)")[1] == ""
    status, errors = start('def f(words): raise ValueError("no")\nrun_command("x", f)', "2>&1 | (exec <&-; sleep 0.5)")
    assert errors == ""


def test_an_output_that_is_full_is_one_line():
    status, errors = start('run_command("x", lambda words: print("a line"))', "> /dev/full")
    assert (status, errors) == (1, f"x: [Errno 28] No space left on device{HINT}\n")
    assert start('run_command("x", lambda words: print("a line"))', ">&-") == (0, "")


def test_a_broken_connection_is_no_closed_pipe():
    def push(words):
        raise BrokenPipeError(32, "Broken pipe")

    assert run_both(status=1, command=lambda words: run_command("x", push, words))[1] == "x: [Errno 32] Broken pipe" + (
        f"{HINT}\n"
    )


def test_a_name_that_is_no_text_says_what_would_help():
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, errors = start('run_command("x", print)', "réc", **ascii_only)
    assert (status, errors) == (
        1,
        "x: 'r\\udcc3\\udca9c' is no text in ascii, the encoding of names here: try PYTHONUTF8=1\n",
    )
    assert start('run_command("x", lambda words: None)', "réc", PYTHONUTF8="1") == (0, "")


def wrapped(words):
    with naming("outputs/x"):
        {}["vocab_size"]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (lambda words: int("many"), f"x: invalid literal for int() with base 10: 'many'{HINT}\n"),
        (lambda words: open("nowhere/at/all"), "x: no such file: nowhere/at/all\n"),  # noqa: SIM115
        (lambda words: __import__("nothing_like_it"), f"x: No module named 'nothing_like_it'{HINT}\n"),
        (wrapped, f"x: outputs/x cannot be used: is one of its files damaged? (KeyError: 'vocab_size'){HINT}\n"),
    ],
)
def test_what_this_package_did_not_say_on_purpose_names_the_way_to_the_traceback(command, line):
    assert run_both(status=1, command=lambda words: run_command("x", command, words))[1] == line


def test_what_this_package_says_needs_no_traceback():
    printed = run_both("card", "./nowhere", status=1)[1]
    assert printed == "e4srec: no such folder: nowhere\n"
    assert not re.search("debug", run_both("recommend", "--top-j", "3", "x", status=2)[1])


def test_naming_leaves_mistakes_as_they_are():
    with pytest.raises(OSError, match="full"), naming("x"):
        raise OSError("full")


@pytest.mark.parametrize("content", [b"\x80\x02cos\nsystem\n.", b"\x80\x02I1\n."])
def test_the_advice_of_torch_to_run_a_pickle_all_the_same_is_not_repeated(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "optimizer.pt", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(Exception, match="weights_only") as caught:  # what torch says
        torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert is_mistake(caught.value)
    assert one_line(caught.value).endswith("it was refused, and nothing of it was run")
