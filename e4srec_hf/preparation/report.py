"""Describe a preparation: a summary for the terminal, and the text of the data set card."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..cards.markdown import plain, table
from .options import PreparationOptions
from .source import Source

#: Only options that differ from these are described.
_DEFAULTS = PreparationOptions().to_dict()
#: Files of titles that are named.
LISTED = 5
#: Descriptions of the order of ties.
_TIES = {
    "file": "in the order of the files",
    "item": "by item id",
    "shuffle": "in random order (seed {seed})",
}


def summary_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Statistics as (name, value), for a table of two columns."""
    lines = [
        ("users", f"{facts['users']:,}"),
        ("items", f"{facts['items']:,}"),
        ("interactions", f"{facts['interactions']:,}"),
        ("density", f"{facts['density']:.4%}"),
        ("mean history", f"{facts['mean_history']:.1f}"),
        ("longest history", f"{facts['longest_history']:,}"),
        ("repeats", f"{facts['repeats']:.2%}"),
        *((f"rows in {split}", f"{rows:,}") for split, rows in facts["splits"].items()),
        ("users without a test target", f"{facts['users_without_test_target']:,}"),
        ("items not in train", f"{facts['items_not_in_train']:,}"),
        ("items with a title", f"{facts['items_with_title']:,}"),
    ]
    for label, name in (("titles freed of HTML", "titles_cleaned"), ("titles left out: HTML alone", "titles_left_out")):
        if facts[name]:
            lines.append((label, f"{facts[name]:,}"))
    if facts["test_targets_in_ties"] is not None:
        lines.append(("test targets that depend on ties", f"{facts['test_targets_in_ties']:.2%}"))
    return lines


def dataset_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``dataset.json``, from which the card is made."""
    options = facts["options"]
    split = {"kind": options["split"]}
    if options["split"] == "time":
        split |= {"targets": options["targets"], "validation_from": facts["cuts"][0], "test_from": facts["cuts"][1]}
    elif options["split"] == "ratio":
        split |= {name: options[name] for name in ("targets", "validation_share", "test_share")}
    return {
        **{name: facts[name] for name in ("name", "users", "items", "interactions", "sha256", "splits")},
        "hub_id": None,
        "titles": facts["items_with_title"],
        "titles_from": facts["titles_from"],
        "picture": facts["picture"],
        "short": facts["users_without_test_target"],
        "split": split,
        "source": describe_preparation(facts),
    }


def describe_preparation(facts: Mapping[str, Any]) -> str:
    """Describe the source and the processing of the data, in Markdown for the card."""
    preset = f" with the preset `{facts['preset']}`" if facts["preset"] else ""
    options = facts["options"]
    changed = [
        f"{name} = {plain(repr(value))}"
        for name, value in options.items()
        if (value != _DEFAULTS.get(name) and name != "owner") or (name == "owner" and value != "user")
    ]
    chosen = f"Options: {', '.join(changed)}." if changed else "All options have their default values."
    if facts["source"] in ("table", "sql"):
        columns = [f"{name} {plain(names[0])}" for name, names in facts["columns"].items()]
        chosen += f" Columns: {', '.join(columns)}."
    files = table(("file", "bytes", "SHA-256"), map(_file, _files(facts)))
    steps = table(
        ("step", "rows in", "rows out"),
        [(step["step"], f"{step['rows_in']:,}", f"{step['rows_out']:,}") for step in facts["steps"]],
    )
    rejected = "".join(f" {plain(reason)}: {number:,}." for reason, number in facts["rejected"].items())
    return "\n\n".join(
        [
            f"Prepared with e4srec-hf {facts['software']['e4srec-hf']} from raw logs of the source "
            f"`{facts['source']}`{preset}. {chosen} `preparation.json` records everything that affected the data.",
            files,
            steps,
            f"Invalid records were left out:{rejected}" if rejected else "All records were valid.",
            f"Titles are from {plain(facts['titles_from'])}." if facts["titles_from"] else "Items have no titles.",
            describe_ties(facts),
        ]
    )


def titles_from(source: Source, files: Sequence[Any], metadata: Sequence[Any]) -> str:
    """The columns that titles are from, of the file of items first, as it comes first; empty without titles."""
    found = [(file["columns"]["title"], file["name"]) for file in metadata]
    found += [(file["columns"][source.title], file["name"]) for file in files if source.title in file["columns"]]
    named = [f"column {column} of {name}" for column, name in found]
    more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
    return ", ".join(named[:LISTED]) + more


def describe_ties(facts: Mapping[str, Any]) -> str:
    """Describe the order of ties and the share of test targets that depend on it."""
    if facts["first_time"] is None:
        return "The log has no times: sequences keep the order of the log."
    if facts["test_targets_in_ties"] is None:
        return "No user has a test target."
    options = facts["options"]
    if not facts["test_targets_in_ties"]:
        return "No test target depends on ties: no other item of the same user has the same time."
    order = _TIES[options["ties"]].format(seed=options["ties_seed"])
    return (
        f"Interactions of a user at the same time are sorted {order}. "
        f"{facts['test_targets_in_ties']:.2%} of the test targets depend on this order: another item of the user has "
        "the same time and could be the target instead. Figures on another preparation of the same raw files are not "
        "comparable."
    )


def _file(facts: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name, size and hash of a file; of a table, its rows and the query."""
    if "bytes" in facts:
        return facts["name"], f"{facts['bytes']:,}", facts["sha256"]
    return facts["name"], f"{facts['rows']:,} rows", plain(facts["query"]) if "query" in facts else ""


def _files(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*facts["files"], *facts["metadata"]]
