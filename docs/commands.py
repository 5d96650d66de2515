"""A hook of mkdocs: the line `<!-- commands -->` becomes each command of e4srec with its arguments and options."""

import re
from typing import Any

from typer.main import get_command

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands into a page that asks for them."""
    if MARK not in markdown:
        return markdown
    from e4srec_hf.cli.app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return markdown.replace(MARK, "\n".join(section(name, command) for name, command in commands.items()))


def section(name: str, command: Any) -> str:
    """A heading, what the command does, and a table of what it takes."""
    usage = f"e4srec {name}" + "".join(
        f" {parameter.name.upper()}" for parameter in command.params if parameter.param_type_name == "argument"
    )
    rows = [row(parameter) for parameter in command.params]
    table = ["| argument or option | |", "| --- | --- |", *rows] if rows else []
    return "\n".join([f"## {usage}", "", plain(command.help), "", *table, ""])


def row(parameter: Any) -> str:
    """A row of the table: the flags of an option, or the name of an argument, and the help."""
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    help_text = plain(parameter.help) + ("" if argument or not parameter.required else " Required.")
    return f"| {', '.join(f'`{name}`' for name in names)} | {help_text} |"


def plain(text: str | None) -> str:
    """Help as one line of a Markdown table."""
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").strip()
