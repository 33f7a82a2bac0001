"""A text without its secrets, line by line: what a line means may have been said by the one before it.

A private key in many lines, the data of a Secret in YAML, a variable's name and its value, a flag and its
argument. What one line shows by itself is known in labctl.cluster.secretforms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl.cluster import secretforms
from labctl.cluster.secretforms import GONE, LOG_HEAD, NAME

PEM_LINES_MOST = 200
"""Lines after which a private key without an end is over; one of 16384 bits has 195."""

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_AROUND_PEM = "\\nr\"'`, \t\r)}]"
"""What may stand after a key's last line and says nothing."""

_FLAG = re.compile(rf"(?:^|[\s\"'])--?[\w-]{{0,64}}?{NAME}[\"']?,?\s{{0,8}}$", re.IGNORECASE)
_NAME = re.compile(rf"\bname[\"']?:\s{{0,8}}[\"']?[\w-]{{0,64}}?{NAME}[\"']?,?\s{{0,8}}$", re.IGNORECASE)
_ARGUMENT = re.compile(rf"^({LOG_HEAD}\s*(?:- )?[\"']?)([^-\s\"'].*?)([\"']?,?\s*)$")
_NAMED_VALUE = re.compile(
    r"^(.{0,256}?\bvalue[\"']?:\s{0,64}[\"']?)([^\s\"'].*?)([\"']?,?\s*)$", re.IGNORECASE
)

_BLOCK = re.compile(r"[\"']?\b(data|stringData|binaryData)[\"']?\s{0,8}:\s{0,8}\{?\s{0,8}$")
_SCALAR = re.compile(rf"{NAME}[\"']?:\s{{0,8}}[|>][-+0-9]{{0,3}}\s{{0,8}}$", re.IGNORECASE)
_ENTRY = re.compile(r"^(\s*[\"']?[\w.-]{1,253}[\"']?:\s{1,64}[\"']?)([^\"'\s]+)([\"']?,?\s*)$")
_TAIL = 512
"""Characters at a line's end in which a name is looked for whose value comes with the next line."""


def scrubbed(text: str) -> str:
    """``text`` without what looks like a key, a token or a password. Once more changes nothing."""
    ends = "\n" if text.endswith("\n") else ""
    redactor = Redactor()
    lines = (redactor.line(line) for line in text.removesuffix("\n").split("\n"))
    return "\n".join(line for line in lines if line is not None) + ends


@dataclass
class _Block:
    """Lines further right than ``column`` that belong together; of ``whole`` ones nothing stays."""

    column: int
    whole: bool
    entries: int = -1


class Redactor:
    """Cleans the lines of one text in their order."""

    def __init__(self) -> None:
        self._pem_lines = 0
        self._block: _Block | None = None
        self._follows: re.Pattern[str] | None = None

    def line(self, text: str) -> str | None:
        """``text``, a line without its end, cleaned; None where nothing of the line may stay."""
        if self._pem_lines:
            rest = self._past_pem(text)
            if rest is None:
                return None
            text = rest
        if not text:  # most lines of a text that wants to cost time
            return text
        text = self._followed(self._without_pem(text))
        return secretforms.removed(self._within_block(text))

    def _past_pem(self, text: str) -> str | None:
        """What stands after the end of the private key that began above."""
        end = _PEM_END.search(text)
        self._pem_lines = 0 if end else self._pem_lines - 1
        rest = text[end.end() :] if end else ""
        return rest if rest.strip(_AROUND_PEM) else None

    def _without_pem(self, text: str) -> str:
        """Without a private key that stands on this line; one that only begins here takes the next lines too."""
        while "PRIVATE KEY" in text and (begin := _PEM.search(text)):
            end = _PEM_END.search(text, begin.end())
            if end is None:
                # Where text follows the marker, the key is written on one line and was cut off.
                self._pem_lines = 0 if text[begin.end() :].strip() else PEM_LINES_MOST
            text = text[: begin.start()] + GONE + (text[end.end() :] if end else "")
        return text

    def _followed(self, text: str) -> str:
        """Without the value of a name or flag that ended the line above."""
        if self._follows:
            text = self._follows.sub(lambda found: found[1] + GONE + found[3], text)
        self._follows = None
        tail = text[-_TAIL:]
        if secretforms.may_name(tail):
            self._follows = _ARGUMENT if _FLAG.search(tail) else _NAMED_VALUE if _NAME.search(tail) else None
        return text

    def _within_block(self, text: str) -> str:
        """Without the values of a Secret's data, and without a text that a secret's name was given in YAML."""
        if self._block and text[self._block.column :].strip():
            text = self._entry(text, self._block)
        if self._block is None:
            self._block = _begun(text)
        return text

    def _entry(self, text: str, block: _Block) -> str:
        """One line of a block, or the first one after it, which ends it."""
        below = text[block.column :]
        indent = len(below) - len(below.lstrip())
        if not indent:
            self._block = None
            return text
        if block.entries < 0:
            block.entries = indent
        if block.whole and GONE in below:
            return text
        if block.whole:
            found = _ENTRY.match(below) if indent == block.entries else None
            return text[: block.column] + (found[1] + GONE + found[3] if found else " " * indent + GONE)
        found = _ENTRY.match(below) if indent == block.entries else None
        if found and secretforms.is_base64(found[2]):
            return text[: block.column] + found[1] + GONE + found[3]
        return text


def _begun(text: str) -> _Block | None:
    """The block that the lines below ``text`` are, if it begins one."""
    tail = text[-_TAIL:]
    before = len(text) - len(tail)
    if ("ata" in tail) and (found := _BLOCK.search(tail)):
        return _Block(before + found.start(), whole=found[1] == "stringData")
    if ("|" in tail or ">" in tail) and secretforms.may_name(tail) and (found := _SCALAR.search(tail)):
        return _Block(secretforms.name_start(text, before + found.start()), whole=True)
    return None
