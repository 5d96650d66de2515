"""Titles of items, of which some sources have pieces of web pages."""

import html
import re

from ..data.titles import LONGEST_TITLE, STEERING

#: Rounds of replacing references that stand for references.
ROUNDS = 5
_INLINE = "a|abbr|b|big|cite|code|em|font|i|s|small|span|strike|strong|sub|sup|tt|u"
_BLOCKS = (
    "address|article|blockquote|body|br|button|center|dd|div|dl|dt|footer|form|h[1-6]|head|header|hr|html|iframe|img|input"
    "|label|li|link|main|meta|nav|ol|option|p|pre|section|select|table|tbody|td|th|thead|title|tr|ul|video"
)
#: What is not shown of a page: scripts and styles with their content, also where their end was cut off; comments.
_HIDDEN = re.compile(r"<(script|style|noscript|svg)\b.*?(</\1\s*>|$)|<!--.*?(-->|$)|<!doctype\b[^>]*(>|$)", re.I | re.S)
#: Text that is taken as it stands.
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(\]\]>|$)", re.I | re.S)
#: Control characters that part words.
_BLANKS = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
#: Tags of HTML; at the end also the beginning of one that was cut off, known by a space behind its name.
_TAG = re.compile(
    rf"</?(?P<name>{_INLINE}|{_BLOCKS})(\s([^<>\"']|\"[^\"]*\"|'[^']*')*|\s[^<>]*)?/?>|</?({_INLINE}|{_BLOCKS})\s+([\w-]+\s*)?(=[^<>]*)?$|^\s*</?[a-z]+$",
    re.I,
)
_IS_INLINE = re.compile(_INLINE, re.I)
#: A character reference; without the semicolon "R&copy" may be a name.
_REFERENCE = re.compile(r"&(#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
#: Text that is a script or a style sheet.
_CODE = re.compile(
    r"^\s*(var|let|const)\s+[\w$]+\s*=|^\s*(\(\s*)?function\b\s*([\w$]+\s*)?\(|^\s*(window|document)\.\w+|^\s*if\s*\(\s*(typeof|window)\b"
    r"|^\s*[\w@.#:,-][\w.#:, -]*\{[^{}:]*:[^{};]*;|=\s*\(new Date\(\)\)|\.getElementById\(|^\s*P\.when\("
)


def clean_title(title: str) -> str | None:
    """The start of a title without tags and character references; ``None`` if only tags or a script are left."""
    cleaned = STEERING.sub("", _BLANKS.sub(" ", title[:LONGEST_TITLE]))
    for _ in range(ROUNDS):  # references may stand for tags or references
        if "<" not in cleaned and "&" not in cleaned:
            break
        before = cleaned
        cleaned = _TAG.sub(_space, _CDATA.sub(r"\1", _HIDDEN.sub(" ", cleaned)))
        cleaned = STEERING.sub("", _REFERENCE.sub(lambda found: html.unescape(found.group()), cleaned))
        if cleaned == before:
            break
    if cleaned != title:
        cleaned = " ".join(cleaned.split())
    return None if not cleaned or _CODE.search(cleaned) else cleaned


def _space(tag: re.Match[str]) -> str:
    """What stands in the place of a tag: a tag within a line parts no words."""
    return "" if tag["name"] and _IS_INLINE.fullmatch(tag["name"]) else " "
