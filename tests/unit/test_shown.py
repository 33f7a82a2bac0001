"""What comes from elsewhere acts nowhere, and nothing of it is lost without a word."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text as RichText

from labctl import shown
from labctl.console import Console
from labctl.errors import HostError

HOSTILE = {
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "colour": "\x1b[31m",
    "title": "\x1b]0;mine\x1b\\",
    "C1 CSI": "\x9b2J",
    "C1 OSC": "\x9d52;c;eA==\x9c",
    "bidi override": "abc\u202egnp.exe",
    "bidi isolate": "\u2066x\u2069",
    "backspace": "good\b\b\b\bevil",
    "nul": "a\x00b",
    "delete": "a\x7fb",
    "line separator": "a\u2028b",
    "surrogate": "a\ud800b",
    "tags": "a\U000e0041b",
}
ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff\U000e0000-\U000e007f]"
)


@pytest.fixture(params=HOSTILE, ids=str)
def hostile(request: pytest.FixtureRequest) -> str:
    return HOSTILE[request.param]


def test_what_acts_is_spelt_out(hostile: str) -> None:
    safe = shown.clean(f"before {hostile} after")
    assert not ACTS.search(safe)
    assert safe.startswith("before ")
    assert safe.endswith(" after")
    assert len(safe) > len(f"before {hostile} after")


def test_what_is_harmless_stays() -> None:
    text = "파드 — ✓ 👩‍💻 é\n\tcolumn [red]"
    assert shown.clean(text) == text


def test_a_carriage_return_hides_nothing() -> None:
    assert shown.clean("10 %\r100 %\r\ndone") == "10 %\n100 %\ndone"


class Written(io.StringIO):
    encoding = "utf-8"


def show(console: Console, how: str, text: str) -> None:
    if how == "say":
        console.say(text)
    elif how == "error":
        console.error(HostError(text, why=text, next_step=text, details=text))
    elif how == "step":
        with console.step(text) as step, console.step(text):
            step.note(text)
            step.result(text)
    elif how == "data":
        console.data({text: text}, lambda: text)
    elif how == "piece":
        console.piece(lambda: RichText(text, style="red"))
    elif how == "table":
        table = Table(text)
        table.add_row(text)
        console.data([], lambda: table)


@pytest.mark.parametrize("how", ["say", "error", "step", "data", "piece", "table"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_no_way_to_the_terminal_goes_past_it(how: str, style: Any, hostile: str) -> None:
    out, err = Written(), Written()
    console = Console(out=out, err=err)
    console.format = style
    show(console, how, f"x{hostile}")
    written = out.getvalue() + err.getvalue()
    assert not ACTS.search(written), repr(written)


def test_json_loses_nothing(hostile: str) -> None:
    value = {"name": hostile, "many": [hostile, 1]}
    document = shown.as_json(value)
    assert not ACTS.search(document)
    assert json.loads(document) == value


@given(st.text(), st.integers(min_value=3, max_value=50))
def test_a_cut_text_says_how_much_is_gone(text: str, limit: int) -> None:
    made = shown.cut(text, limit)
    if len(text) <= limit:
        assert made == text
    else:
        head, rest = made.split(f" ... [{len(text) - limit} characters left out] ... ")
        assert text.startswith(head)
        assert text.endswith(rest)
        assert len(head) + len(rest) == limit


class Word(StrEnum):
    LONG = "a long word that is one of ours"


@dataclass(frozen=True)
class Piece:
    text: str
    word: Word
    more: tuple[Any, ...] = ()
    facts: Any = None


def test_bounds_reach_every_text_and_change_nothing_else() -> None:
    value = Piece("x" * 100, Word.LONG, (Piece("y" * 100, Word.LONG), 3), {"x" * 30: ["z" * 100]})
    small = shown.bounded(value, 10)
    assert small.word is Word.LONG
    assert small.text.startswith("xxxxxxx ... [90 characters")
    assert small.more[0].text.startswith("yyyyyyy ... [90")
    assert small.more[1] == 3
    assert small.facts == {"x" * 30: [shown.cut("z" * 100, 10)]}
    assert shown.bounded(value, 100) == value


def test_a_document_is_fitted_by_shorter_texts() -> None:
    texts = ["x" * 10_000] * 100
    drawn = shown.fitted(texts, "\n".join, text=5_000, whole=100_000)
    assert 10_000 < len(drawn) <= 100_000
    assert drawn.count("characters left out") == 100


@pytest.mark.parametrize(
    "text",
    [
        "see https://evil.example/x", "www.evil.example", "mail@evil.example", "@everyone", "owner/repo#12", "GH-12",
        "mailto:x", "ssh://evil", ":smile: for you", "fixed in 0123456789abcdef",
    ],
)  # fmt: skip
def test_in_markdown_what_a_site_would_link_is_code(text: str) -> None:
    assert shown.markdown(text) == f"` {text} `"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain words, 3 of 3", "plain words, 3 of 3"),
        ("<b> & [x](y) | `c`", "&lt;b&gt; &amp; \\[x\\]\\(y\\) \\| \\`c\\`"),
        ("two\nlines", "two lines"),
        ("``@a`` | b", "``` ``@a`` \\| b ```"),
        ("@a\\|b", "` @a\\ \\|b `"),
    ],
)
def test_in_markdown_the_rest_is_escaped(text: str, written: str) -> None:
    assert shown.markdown(text) == written
