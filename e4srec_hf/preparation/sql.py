"""Text in SQL: literals, names, and when a text is there at all."""

#: What Python strips of a text: an id of nothing else is none.
BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())


def sql_text(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def present(expression: str) -> str:
    """SQL for a text, NULL where it is empty or blank."""
    return (
        f"CASE WHEN unicode({expression}) BETWEEN 33 AND 126 THEN {expression}"  # a quick look at its first letter
        f" WHEN trim({expression}, {sql_text(BLANKS)}) <> '' THEN {expression} END"
    )


def whole_number(text: str) -> str:
    """SQL for the text of a floating-point number, without the ``.0`` of a whole one."""
    return f"regexp_replace({text}, '\\.0$', '')"
