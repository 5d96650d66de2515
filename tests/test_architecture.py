"""The rooms of docs/architecture.md, held to the code: imports run one way, what travels is small and stands alone."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

import e4srec_hf
import e4srec_hf.modeling

PACKAGE = Path(e4srec_hf.__file__).parent
MODELING = Path(e4srec_hf.modeling.__file__).parent
EXAMPLES = Path(__file__).parent.parent / "examples"

#: Each room, and the rooms that it may import from. The ground floor is `modeling`, then `files`.
ROOMS = {
    "modeling": set(),
    "version": set(),
    "source_tree": set(),
    "terminal": set(),
    "errors": {"terminal"},
    "paths": {"errors"},
    "base_models": set(),
    "registration": {"modeling"},
    "files": {"modeling"},
    "data": {"modeling", "files", "paths", "errors", "base_models"},
    "evaluation": {"data", "modeling", "files"},
    "cards": {"evaluation", "data", "modeling", "files", "errors", "version"},
    "preparation": {"cards", "data", "modeling", "files", "version"},
    "hub": {"cards", "evaluation", "data", "modeling", "files", "errors", "version"},
    "catalogue": {"data", "modeling", "files"},
    "training": {
        "errors",
        "hub",
        "cards",
        "evaluation",
        "data",
        "modeling",
        "files",
        "paths",
        "base_models",
        "version",
    },
    "convert": {"training", "hub", "cards", "data", "modeling", "files", "paths", "base_models"},
    "serving": {"hub", "evaluation", "data", "modeling", "files", "paths", "base_models"},
    "examples": {
        *("training", "catalogue", "hub", "cards", "evaluation", "data", "modeling", "files", "paths", "errors"),
        "terminal",
    },
    "cli": {
        *("examples", "serving", "convert", "training", "catalogue", "hub", "preparation", "cards", "evaluation"),
        *("data", "modeling", "files", "paths", "errors", "terminal", "version"),
    },
}
#: The only module of the cards that training may import.
DOOR_OF_CARDS = "cards.callback"


def modules():
    """Path of each module, and its name below the package."""
    outside = {"modeling": MODELING, "examples": EXAMPLES}
    for root, prefix in ((PACKAGE, ()), *((folder, (name,)) for name, folder in outside.items())):
        for file in sorted(root.rglob("*.py")):
            parts = (*prefix, *file.relative_to(root).with_suffix("").parts)
            if parts[0] != "hub_cards" and (prefix or parts[0] not in outside):
                yield file, parts


def imports_of(file, parts):
    """The modules of the package that a module imports, as names below the package."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ("e4srec_hf", *parts)[: len(parts) + 1 - node.level]
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("e4srec_hf.") for name in found if name.startswith("e4srec_hf."))


def arrows():
    """Room to room, with the module and what it imports."""
    for file, parts in modules():
        for name in imports_of(file, parts):
            room, target = parts[0], name.partition(".")[0]
            if target in ROOMS and target != room and room != "__init__":
                yield room, target, ".".join(parts), name


def test_every_module_is_in_a_room():
    assert {parts[0] for _, parts in modules()} - {"__init__", "__main__"} == set(ROOMS)


def test_imports_run_one_way():
    wrong = [(module, name) for room, target, module, name in arrows() if target not in ROOMS[room]]
    assert not wrong


def test_the_rooms_have_an_order():
    """No cycle in what is allowed: each room imports only from rooms above it in the table."""
    order = list(ROOMS)
    assert all(order.index(target) < order.index(room) for room, targets in ROOMS.items() for target in targets)


def test_training_reaches_the_cards_through_the_callback_alone():
    names = [name for room, target, _, name in arrows() if room == "training" and target == "cards"]
    assert names
    assert all(name.startswith(DOOR_OF_CARDS) for name in names)


def test_what_travels_imports_nothing_of_the_package():
    allowed = {"torch", "transformers", "peft", "safetensors", "huggingface_hub", *sys.stdlib_module_names}
    for file in MODELING.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.partition(".")[0] in allowed, file
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, file


@pytest.mark.parametrize(("model", "most_lines"), [("e4srec", 1820), ("sasrec", 1000)])
def test_what_travels_is_small_enough_to_read(model, most_lines):
    main = MODELING / f"modeling_{model}.py"
    files = {main, *map(Path, get_relative_import_files(main))}
    assert len(files) <= 12
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= most_lines


def test_the_first_docstring_names_every_file_that_travels():
    main = MODELING / "modeling_e4srec.py"
    text = ast.get_docstring(ast.parse(main.read_text(encoding="utf-8")))
    for file in {main, *map(Path, get_relative_import_files(main))}:
        assert f"``{file.name}``" in text
