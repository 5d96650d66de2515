"""The commands put together. Their words are read by typer; ``--top-k`` and ``--top_k`` are the same."""

import re
from itertools import pairwise
from typing import Any, NoReturn

import typer

from ..errors import UsageError, closest
from .card import card
from .evaluate import evaluate
from .import_reference import import_reference
from .prepare import EPILOG as SOURCES_AND_EXAMPLE
from .prepare import prepare
from .pull import pull
from .push import push
from .recommend import recommend
from .train import train
from .verify import verify

app = typer.Typer(
    help="E4SRec on the Hugging Face Hub: train recommenders, share them, and use those of others.",
    epilog="With any command, --debug shows the traceback of an error.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)

app.command(epilog=SOURCES_AND_EXAMPLE)(prepare)
app.command(  # its flags are those of the settings of a training
    epilog="Example: e4srec train --dataset log.txt --base_model Qwen/Qwen3-0.6B --output_dir outputs/mine",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(train)
app.command(epilog="Example: e4srec evaluate outputs/mine --dataset log.txt --negatives 99")(evaluate)
app.command(
    epilog="Example: e4srec recommend outputs/demo B0221 B0434 --top-k 5\n\n"
    "e4srec recommend outputs/demo --input users.parquet --output recs.parquet --top-k 20"
)(recommend)
app.command(epilog="Example: e4srec push outputs/demo org/e4srec-demo --private")(push)
app.command(epilog="Example: e4srec pull org/e4srec-demo outputs/pulled")(pull)
app.command(epilog="Example: e4srec card outputs/demo --repo-id org/e4srec-demo")(card)
app.command(
    epilog="Example: e4srec verify org/e4srec-demo\n\nExit status: 0 passed, 1 failed, 2 could not be checked."
)(verify)
app.command(
    epilog="Example: e4srec import-reference SASRec_item_embed.pkl outputs/imported --sequences Beauty.txt "
    "--adapter adapter.pth --base-model meta-llama/Llama-2-13b-hf"
)(import_reference)

#: Options for which the empty text is a value.
MAY_BE_EMPTY = ("--instruction", "--response", "--missing")

_UsageError: Any = typer.BadParameter.__base__  # typer exports only this kind of it


def call_app(argv: list[str]) -> Any:
    """Run the command that the words name; without words, print the help.

    Returns:
        The exit status, where a command has one.

    Raises:
        UsageError: If there is no such command or option, or a value is impossible.
        KeyboardInterrupt: If the user interrupts it.
    """
    if argv and not argv[0].startswith("-"):
        _check_command(argv[0])
        if argv[0] != "train":  # whose flags are checked with its settings
            _check_empty(argv)
    try:
        return app(argv or ["--help"], prog_name="e4srec", standalone_mode=False)
    except _UsageError as error:
        _explain(error)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except (OSError, ValueError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (_with_flags(error.args[0], argv),)
        raise


def _with_flags(message: str, words: list[str]) -> str:
    """A message of the library with the flags of a command in the place of Python's arguments; paths stay."""
    found = typer.main.get_command(app).commands.get(words[0].replace("_", "-"))  # type: ignore[attr-defined]
    flags = {
        parameter.name: flag
        for parameter in (() if found is None else found.params)
        if (flag := next((name for name in parameter.opts if name.startswith("--")), None)) is not None
    }
    if not flags:
        return message
    kept = [r"(?<![\w=])'[^']*'", r'(?<![\w=])"[^"]*"', *(re.escape(word) for word in words if "=" in word)]
    before, names, to_value = r"(?<![\w/\\.=-])", "|".join(flags), r"""(?=['"\d]|True\b|False\b)"""
    end = r"<[^>]*>|(?=[,;:.)]*(?:\s|$))"
    argument = rf"{before}(?P<name>{names})=(?:(?P<value>{to_value})|{end})"
    return re.sub(
        rf"{'|'.join(kept)}|{argument}(?: to from_pretrained)?",
        lambda match: flags[match["name"]] + " " * (match["value"] is not None) if match["name"] else match.group(),
        message,
    )


def _check_command(name: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if name.replace("_", "-") not in commands:
        close = closest(name, commands)
        raise UsageError(f"{name}: " + (f"did you mean {close}?" if close else "there is no such command"))


def _check_empty(words: list[str]) -> None:
    """Refuse empty words, as of a variable of the shell that is not set: a path would be the folder one is in."""
    for option, word in pairwise(words):
        if word == "" and option.replace("_", "-") not in MAY_BE_EMPTY:
            what = option if option.startswith("-") else "an argument"
            raise UsageError(f"{words[0]}: {what} is empty: is a variable of the shell not set?")


def _explain(error: Any) -> NoReturn:
    """Raise an error of typer as a line that says the option, the command and what may have been meant."""
    command = "" if error.ctx is None else error.ctx.command_path.removeprefix("e4srec").strip()
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        close = error.possibilities or []
        message = f"{option}: did you mean {' or '.join(close)}?" if close else f"{option}: there is no such option"
    else:
        message = error.format_message()
    raise UsageError(f"{command}: {message}" if command else message) from None
