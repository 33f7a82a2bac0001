"""Text from elsewhere, made harmless and bounded for the place where it is shown.

Names and messages of pods, what programs print and what labs say reach a terminal, a summary page and report
files. All of it passes through here, once per format; nothing here knows what the texts mean, and no
other module replaces characters for safety's sake.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

ON_TERMINAL = 2_000
"""Characters of one text in a remark, an error or a result on a terminal: a screen full."""

SHORTEST = 200
"""No document is made to fit by cutting its texts shorter than this many characters."""

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1: what terminals obey
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # make text read in another order than it is written
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # line ends and marks that only some programs see
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"  # no characters, or tags nobody sees
)
LINKS = re.compile(
    r"://|\bwww\.|\bmailto:|\bxmpp:|[@#]\w|\bGH-\d|\b[0-9a-f]{7,40}\b|:[a-z0-9_+-]+:", re.IGNORECASE
)
"""What a site may turn into a link, a mention, a reference or a picture without being asked."""
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~@$])")


def clean(text: str) -> str:
    """``text`` without anything that acts: a control, bidirectional or invisible character is spelt out.

    The result is fit for a terminal, for XML and for HTML once escaped. A carriage return ends a line.
    """
    return CONTROL.sub(_spelt, text.replace("\r\n", "\n").replace("\r", "\n"))


def line(text: str) -> str:
    """``text``, clean and on one line."""
    return " ".join(clean(text).split())


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters of ``text``, two thirds from its beginning, and how many are left out."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    gone = len(text) - limit
    return f"{text[: limit - tail]} ... [{gone} characters left out] ... {text[len(text) - tail :]}"


def bounded(value: Value, limit: int) -> Value:
    """``value`` with every text in it cut to ``limit`` characters: in dataclasses, lists, tuples, dict values."""
    return cast("Value", _bounded(value, limit))


def fitted(value: Value, draw: Callable[[Value], str], *, text: int, whole: int) -> str:
    """What ``draw`` makes of ``value`` with its texts cut to ``text`` characters.

    Where that is more than ``whole`` bytes of UTF-8, the texts are cut shorter and shorter, down to `SHORTEST`
    characters. A document of very many short texts may still be larger.
    """
    limit = text
    while True:
        drawn = draw(bounded(value, limit))
        if limit <= SHORTEST or len(drawn.encode("utf-8", "replace")) <= whole:
            return drawn
        limit = max(limit // 4, SHORTEST)


def as_json(value: Any) -> str:
    """``value`` as a JSON document. Nothing is lost: what acts on a terminal is written as JSON's own escape."""
    return CONTROL.sub(_json_escape, json.dumps(value, ensure_ascii=False, indent=2)) + "\n"


def markdown(text: str) -> str:
    """``text`` as one line of Markdown, also within a table.

    A text that a site could turn into more than text (a bare URL, a mention, a reference) becomes code:
    that is the one place where no site looks for any.
    """
    flat = line(text)
    return _code(flat) if LINKS.search(flat) else MARKDOWN.sub(r"\\\1", html.escape(flat, quote=False))


def preformatted(text: str) -> str:
    """``text`` for the inside of HTML's ``pre`` in a Markdown page; its lines stay.

    Bars are spelt out as well: some sites look for tables before they look for HTML.
    """
    return html.escape(clean(text), quote=False).replace("|", "&#124;")


def _code(text: str) -> str:
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    # A table is split at bars before anything else is looked at, even within code.
    barred = text.replace("\\|", "\\ |").replace("|", "\\|")
    return f"{fence} {barred} {fence}"


def _bounded(value: Any, limit: int) -> Any:
    if type(value) is str:
        return cut(value, limit)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _bounded(getattr(value, name), limit) for name in names})
    if type(value) in (list, tuple):
        return type(value)(_bounded(one, limit) for one in value)
    if isinstance(value, dict):
        return {key: _bounded(one, limit) for key, one in value.items()}
    return value


def _spelt(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _json_escape(found: re.Match[str]) -> str:
    raw = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, len(raw), 2))
