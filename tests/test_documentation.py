"""The documentation fits the code: imports on its pages work, commands take their flags, every module has a page."""

import ast
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from transformers import TrainingArguments

from e4srec_hf.cli.app import app
from e4srec_hf.training import arguments

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Modules that have no page of the reference: they do the work of the modules that have one.
INTERNAL = {
    "e4srec_hf.base_models",
    "e4srec_hf.errors",
    "e4srec_hf.paths",
    "e4srec_hf.terminal",
    "e4srec_hf.registration",
    "e4srec_hf.source_tree",
    "e4srec_hf.version",
    "e4srec_hf.cards.markdown",
    "e4srec_hf.convert.reference_lora",
    "e4srec_hf.data.raw_logs",
}
#: Rooms of which only what they export, and the modules on their page, are meant to be used from outside.
INTERNAL_ROOMS = tuple(f"e4srec_hf.{room}." for room in ("cli", "hub.verify", "modeling", "preparation", "training"))


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code blocks of one language on a page."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each line that calls e4srec, comments left out."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["e4srec"]:
                yield words


def flags_of(command: str) -> set[str]:
    """The flags of a command, with ``_`` for ``-``: both are taken."""
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    known = {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)}
    if command == "train":
        parts = (arguments.DataArguments, arguments.ModelArguments, arguments.SASRecArguments, TrainingArguments)
        known |= {"--config"} | {f"--{field.name}" for part in parts for field in dataclasses.fields(part)}
    return {flag.replace("-", "_") for flag in known}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_imports_on_a_page_work(page: Path) -> None:
    missing = []
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code.replace("…", "..."))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("e4srec_hf"):
                module = importlib.import_module(str(node.module))
                missing += [f"{node.module}.{alias.name}" for alias in node.names if not hasattr(module, alias.name)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_a_page_take_their_flags(page: Path) -> None:
    unknown = [
        (command, word)
        for _, command, *words in commands(page)
        for word in words
        if word.startswith("--") and word.partition("=")[0].replace("-", "_") not in flags_of(command)
    ]
    assert unknown == []


def test_flags_in_the_table_of_settings_exist() -> None:
    table = [line for line in (ROOT / "docs" / "train.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = set(re.findall(r"(--\w+)", "\n".join(table))) - {"--include_seen"}  # of evaluate and recommend
    assert len(named) > 20
    assert sorted(flag for flag in named if flag.replace("-", "_") not in flags_of("train")) == []


def test_every_command_is_on_a_page() -> None:
    shown = {words[1] for page in PAGES for words in commands(page)}
    assert sorted(set(typer.main.get_command(app).commands) - shown) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.stem)
def test_a_page_of_the_reference_names_all_that_its_room_exports(page: Path) -> None:
    room = importlib.import_module("e4srec_hf" if page.stem == "index" else f"e4srec_hf.{page.stem}")
    shown = {
        alias.name
        for code in blocks(page, "python")
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module == room.__name__
        for alias in node.names
    }
    assert shown == {name for name in getattr(room, "__all__", ()) if not name.startswith("__")}


def documented_modules() -> set[str]:
    """The modules on the pages of the reference."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    return set(re.findall(r"^::: (\S+)", pages, re.MULTILINE))


def test_every_module_has_a_page() -> None:
    files = [(path, "e4srec_hf") for path in (ROOT / "e4srec_hf").rglob("*.py")]
    files += [(path, "e4srec_hf.modeling") for path in (ROOT / "modeling").glob("*.py")]
    modules = set()
    for path, package in files:
        inside = path.relative_to(ROOT / package.rpartition(".")[2]).with_suffix("")
        if inside.name not in ("__init__", "__main__"):
            modules.add(".".join((package, *inside.parts)))
    undocumented = {name for name in modules - documented_modules() - INTERNAL if not name.startswith(INTERNAL_ROOMS)}
    assert sorted(undocumented) == []
    assert sorted(INTERNAL - modules) == []


def test_what_a_room_exports_is_defined_on_a_page() -> None:
    rooms = [f"e4srec_hf.{page.stem}" for page in (ROOT / "docs" / "reference").glob("*.md") if page.stem != "index"]
    exported = {
        f"{room}.{name}": getattr(importlib.import_module(room), name)
        for room in rooms
        for name in getattr(importlib.import_module(room), "__all__", ())
    }
    assert len(exported) > 50
    documented = documented_modules()
    undocumented = [name for name, it in exported.items() if getattr(it, "__module__", None) not in {None, *documented}]
    assert undocumented == []
