"""SQL snippets for literals and text values."""

#: Characters that Python strips, and those without width; an id of only these is missing.
BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\u200b\u200c\u200d\u2060\ufeff"


def sql_text(text: str) -> str:
    """Quote an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def present(expression: str) -> str:
    """SQL for a text, NULL if it is empty or blank."""
    return (
        f"CASE WHEN unicode({expression}) BETWEEN 33 AND 126 THEN {expression}"  # fast path: a visible first letter
        f" WHEN trim({expression}, {sql_text(BLANKS)}) <> '' THEN {expression} END"
    )


def whole_number(text: str) -> str:
    """SQL that removes the ``.0`` of a whole floating-point number."""
    return f"regexp_replace({text}, '\\.0$', '')"
