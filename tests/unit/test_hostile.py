"""One table of hostile texts against every format, each read by a parser of that format where there is one."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from labctl.console import Console
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.recorder import StepRecord
from labctl.report import data, html, junit, markdown
from labctl.report import text as terminal
from labctl.report.model import Failure, PhaseOutcome, RunPhase, RunReport

HOSTILE = {
    "OSC 52 (clipboard)": "\x1b]52;c;ZXZpbA==\x07",
    "OSC 8 (link)": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "CSI": "\x1b[2J\x1b[31m",
    "C1": "\x9b2J\x9d52;c;eA==\x9c",
    "bidi override": "abc\u202egnp.exe",
    "bidi isolates": "\u2066x\u2069\u2067y",
    "backspaces": "good\b\b\b\bevil",
    "carriage return": "evil\rgood",
    "nul": "a\x00b",
    "not XML": "\x0b\x0c\x1f\ufffe\uffff\ud800",
    "not characters": "\ufdd0\U000e0041",
    "bare URL": "see https://evil.example/x and http://evil.example, ftp://evil.example",
    "www": "www.evil.example",
    "mail": "root@evil.example mailto:a@evil.example",
    "scheme": "javascript:alert(1) data:text/html,x vbscript:x",
    "autolink": "<https://evil.example> <a@evil.example>",
    "Markdown link": "[click](https://evil.example) ![i](//evil.example/x.png) [r]: //evil.example",
    "Markdown link without a scheme": "[click](evil) ![i](evil.png) [click][r]",
    "mention": "@everyone @org/team owner/repo#12 GH-1",
    "tag": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "link tag": "<a href='javascript:alert(1)'>x</a>",
    "end of a tag": "</pre></td></details><h1>evil</h1>",
    "quotes": '" onmouseover="alert(1)" x=\'',
    "entities": "&lt;script&gt; &#x3c;script&#x3e; &NewLine;",
    "end of CDATA": "]]><evil/><![CDATA[ <!-- --> -->",
    "table": "a | b | c\n|---|---|---|\n| evil | evil | evil |",
    "code": "`x` ``y`` ```z``` `\\` \\`",
    "fence": "```\n# evil\n```\n\n    evil\n\n# evil\n- evil\n> evil",
    "escapes": "\\[x](//evil) \\\\ \\|",
    "rich": "[red]x[/red] [link=https://evil.example]y[/link]",
    "template": "{{ 7 * 7 }} {% raw %} ${x}",
}
ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)
MARK = "qqmarkqq"
"""Harmless, and beside each hostile text: where it is shown, the text was."""


@pytest.fixture(params=HOSTILE, ids=str)
def evil(request: pytest.FixtureRequest) -> str:
    return f"{MARK} {HOSTILE[request.param]} {MARK}"


def report(text: str) -> RunReport:
    """A report in which every text that may come from elsewhere is ``text``."""
    checks = tuple(
        CheckResult(id=text, title=text, status=status, seconds=0.1, expected=text, actual=text, hint=text)
        for status in Status
    )
    lab = LabResult(11, text, text, Status.FAIL, checks, text)
    failure = Failure("bug", 70, text, why=text, next_step=text, details=text)
    phase = RunPhase("labs", PhaseOutcome.BROKEN, 0.1, text, (StepRecord(text, 0.1, True, text),), failure)
    facts = {"kubernetes": text}
    run = RunResult(text, text, text, (lab,), 0.1)
    return RunReport(text, text, text, (phase,), 0.1, checks, run, facts, text, True)


def shape(text: str) -> list[tuple[str, str]]:
    """The kinds of all that Markdown makes of the page, and where links lead; no texts."""
    found: list[tuple[str, str]] = []
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        found.append((block.type, block.tag))
        for one in block.children or ():
            if one.type not in {"text", "code_inline", "text_special", "softbreak"}:
                found.append((one.type, one.tag))
    return found


def test_markdown_becomes_no_more_than_it_would_of_a_harmless_word(evil: str) -> None:
    page = markdown.text(report(evil))
    assert not ACTS.search(page)
    assert MARK in page
    kinds = shape(page)
    assert not {kind for kind, _ in kinds} & {"link_open", "image", "fence", "code_block", "blockquote_open"}
    assert kinds == shape(markdown.text(report(MARK)))


LINKED = re.compile(r"https?://|ftp://|www\.|mailto:|\w@\w|@\w|\w#\d", re.IGNORECASE)


def test_no_site_finds_a_link_or_a_mention_outside_of_code(evil: str) -> None:
    page = markdown.text(report(evil))
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(
        re.sub(r"<(pre|code)>.*?</\1>", "", page, flags=re.DOTALL)
    ):
        for one in block.children or ():
            if one.type in {"text", "text_special"}:
                assert not LINKED.search(one.content), one.content
        if block.type == "html_block":
            assert not LINKED.search(block.content), block.content


def test_junit_is_xml_and_says_the_text(evil: str) -> None:
    document = junit.text(report(evil))
    assert not ACTS.search(document)
    tree = ElementTree.fromstring(document)
    plain = ElementTree.fromstring(junit.text(report(MARK)))
    assert [one.tag for one in tree.iter()] == [one.tag for one in plain.iter()]
    assert MARK in "".join(tree.itertext())


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and all values of attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values |= {value or "" for _, value in attrs}


def test_html_has_no_element_link_or_handler_of_anybody_elses(evil: str) -> None:
    page = html.text(report(evil))
    assert not ACTS.search(page)
    assert MARK in page
    seen, plain = Page(page), Page(html.text(report(MARK)))
    assert seen.elements == plain.elements
    assert seen.values == plain.values
    assert not {"a", "script", "iframe", "object", "img", "form"} & {tag for tag, _ in seen.elements}
    assert not any(
        name in {"href", "src"} or name.startswith("on") for _, names in seen.elements for name in names
    )
    assert "default-src 'none'" in page


class Written(io.StringIO):
    encoding = "utf-8"


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_terminal_is_told_nothing_that_acts(evil: str, style: Any) -> None:
    out, err = Written(), Written()
    console = Console(out=out, err=err)
    console.format = style
    made = report(evil)
    console.data(data.as_json(made), lambda: terminal.report(made))
    written = out.getvalue()
    assert MARK in written
    assert not ACTS.search(written)
    if style == "json":
        assert json.loads(written) == json.loads(json.dumps(data.as_json(made)))
