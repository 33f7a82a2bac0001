"""What a secret looks like within one line, and the line without it.

Two ways to know one: by its own form (a JWT, a cloud's key, a password in a URL), or by the name it is
given to (``password=``, ``"token": "..."``, ``--certificate-key ...``). Scanners of source code search by entropy
and only report; here everything must be replaced, and in time that grows with the text alone, for pods
write into logs what they like: no pattern may begin twice in one run of characters, and repeats before
a decision are bounded. This module must not know lines around, files, or where a text comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

GONE = "[removed by labctl]"

BLOB_LEAST = 60
"""Characters of base64 in one run. A line of a PEM file has 64; a hash written so has at most 44."""

LOG_HEAD = r"(?:\S{1,64} std(?:out|err) [FP] )?"
"""What a container runtime writes before each line of a log."""

_SURE = (
    r"passw(?:or)?d|passphrase|pwd|client-(?:key|certificate)-data|certificate-authority-data"
    r"|(?:certificate|private|secret|access|api|account|encryption|signing|shared)[-_]?key|access[-_]?key[-_]?id"
    r"|client[-_]?secret|(?:id|access|refresh|auth|identity|registry|session|bearer)[-_]?token"
    r"|authorization|dockerconfigjson|dockercfg|credentials?|cookie"
)
"""Ends of names whose value is a secret wherever it stands."""
_LIKELY = r"token|secret|auth|pass|[-_]key"
"""Ends of names that prose uses too: "invalid token: expired"."""
NAME = rf"(?:{_SURE}|{_LIKELY})"

_HINTS = ("pass", "pwd", "secret", "token", "key", "auth", "client-", "docker", "credential", "cookie")
"""One of these is in every such name."""

_ASSIGNED = re.compile(
    rf"(?:{_SURE}|(?P<likely>{_LIKELY}))(?P<quote>\\{{0,8}}[\"'`]?)[\])]?\s{{0,8}}"
    r"(?P<sign>=>|:=|==?|:(?!:))\s{0,64}(?:\[(?!removed by)\s{0,8})?",
    re.IGNORECASE,
)
_FLAG = re.compile(
    rf"(?<![\w-])--?(?=[a-z0-9])[\w-]{{0,64}}?{NAME}(?:\s{{1,64}}|\\{{0,8}}[\"']\s{{0,8}},\s{{0,8}})(?=[^-\s])"
    r"|(?<!\S)(?:-u|--user)[\s=]{1,8}[^\s:\"']{1,64}:(?=\S)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"\bname[\"'\\:=\s]{{1,16}}[\w-]{{0,64}}?{NAME}[\"'\\,\s]{{1,16}}value[\"'\\]{{0,8}}[:=]\s{{0,8}}",
    re.IGNORECASE,
)
"""A variable of a container, as JSON or as Go prints it: its name first, then its value."""
_DATA = re.compile(r"(?P<quote>\\{0,8}[\"'])(?:data|stringData|binaryData)(?P=quote)\s{0,8}:\s{0,8}\{[^{}]*")
_DATA_VALUE = re.compile(r"(:\s{0,8}\\{0,8}[\"'])([^\"'\\]+)")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)")

_HEAD = re.compile(rf"{LOG_HEAD}\s*(?:- )?(?:export )?[\"']?")
"""What may stand before a name that begins its line."""
_OPENERS = frozenset("\"'`{[(,;&?")
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_NAME_MOST = 128
_QUOTE = re.compile(r"\\{0,8}[\"'`]")
_RUN = re.compile(r"[^\s\"<>]*")
_SCHEME = re.compile(r"(?:bearer|basic|digest|negotiate|token|aws4-hmac-sha256)\s{1,8}", re.IGNORECASE)
_NO_VALUE = re.compile(
    r"<(?:set to|none|nil|unset|redacted|unknown)|(?:true|false|null|none|nil)(?![^\s,;\"'}\])\\])",
    re.IGNORECASE,
)
_BEGINS_MORE = frozenset(("{", "{}", "[", "[]", "|", "|-", "|+", "map[]"))
"""What stands there in place of a value that comes later, or of none."""
_PATH = re.compile(r"\.{0,2}/[\w./-]+")
_PROSE_LONGEST = 16


@dataclass(frozen=True)
class _Form:
    """A secret known by its own shape. One of ``hints``, in small letters, is in every text that holds it."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    put: str = GONE


_FORMS = (
    _Form(("://",), re.compile(r"(?<=://)[^\s/\"'<>\\?#]+@(?=[^\s/])"), f"{GONE}@"),
    _Form(("@tcp(", "@unix("), re.compile(r":[^\s@:/\"'()]+@(?=(?:tcp|unix)\()"), f":{GONE}@"),
    # A JSON object in base64: a JWT, whole or cut, or docker's configuration.
    _Form(("eyj",), re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_+/=-]{8,}(?:\.[A-Za-z0-9_-]*)*")),
    _Form(("ls0tls1crudjt",), re.compile(r"LS0tLS1CRUdJT[A-Za-z0-9+/=_-]*")),  # PEM in base64
    _Form(
        ("bearer", "basic"),
        re.compile(
            r"(?i)\b(bearer|basic)(\s{1,8})(?=[A-Za-z0-9+/_.~-]*[0-9=]|[A-Za-z0-9+/_.~-]{20})[A-Za-z0-9+/_.~=-]{8,}"
        ),
        rf"\1\2{GONE}",
    ),
    # kubeadm's bootstrap token
    _Form((".",), re.compile(r"(?<![A-Za-z0-9.])[a-z0-9]{6}\.[a-z0-9]{16}(?![A-Za-z0-9.])")),
    _Form(("akia", "asia", "abia", "acca"), re.compile(r"(?<![A-Za-z0-9])A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}")),
    _Form(
        ("gh", "gl"),
        re.compile(
            r"(?<![A-Za-z0-9])(?:gh[oprsu]_|github_pat_|gl(?:pat|dt|rt|ptt|soat|agent|cbt)-)[A-Za-z0-9_-]{16,}"
        ),
    ),
    _Form(("xox", "xapp-"), re.compile(r"(?<![A-Za-z0-9])(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9-]{8,}")),
    _Form(
        ("hooks.slack.com/", "discord"),
        re.compile(
            r"(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"
        ),
        rf"\1{GONE}",
    ),
    _Form(("aiza", "ya29.", "gocspx-"), re.compile(r"(?<![\w.-])(?:AIza|ya29\.|GOCSPX-)[\w.-]{20,}")),
    _Form(
        ("sk-", "k_live", "k_test", "npm_", "pypi-", "dckr_", "_v1_", "hv", "hf_", "sg.", "sha256~", "shp"),
        re.compile(
            r"(?<![\w.-])(?:sk-|[prs]k_(?:live|test)_|npm_|pypi-|dckr_[a-z]{2,4}_|do[opr]_v1_|hv[bsr]\.|hf_|SG\."
            r"|sha256~|shp(?:at|ca|pa|ss)_)[\w.-]{20,}"
        ),
    ),
    _Form(("age-secret-key-",), re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]+")),
)
_BLOB = re.compile(rf"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{{{BLOB_LEAST},}}={{0,2}}")


_PROXY = re.compile(
    r"(_proxy[\"'\\]{0,8}\s{0,8}[:=]\s{0,8}[\"'\\]{0,8}(?:\w{1,16}://)?)([^\s\"'\\]*)", re.IGNORECASE
)


def removed(line: str) -> str:
    """``line`` with `GONE` in the place of every secret that it shows by itself."""
    low = line.lower()
    if "_proxy" in low:
        line = _PROXY.sub(_proxy, line)
    for form in _FORMS:
        if any(hint in low for hint in form.hints):
            line = form.pattern.sub(form.put, line)
    if "data" in low:
        line = _DATA.sub(lambda found: _DATA_VALUE.sub(_data_value, found[0]), line)
    if any(hint in low for hint in _HINTS):
        line = _replaced(line, _ASSIGNED, _assigned)
        line = _replaced(line, _NAMED, _value)
    if "-" in low:
        line = _replaced(line, _FLAG, _value)
    return _BLOB.sub(_blob, line) if len(line) >= BLOB_LEAST else line


def may_name(text: str) -> bool:
    """Whether there may be a name of a secret in ``text``; quick, for most lines have none."""
    low = text.lower()
    return any(hint in low for hint in _HINTS)


def is_base64(text: str) -> bool:
    """Whether ``text`` could be a value of a Secret's data."""
    return bool(_BASE64.fullmatch(text))


def name_start(line: str, end: int) -> int:
    """Where the name begins whose end was found at ``end``; names are short, so it is not looked for further."""
    at = end
    while at > max(0, end - _NAME_MOST) and line[at - 1] in _NAME_CHARACTERS:
        at -= 1
    return at


Span = tuple[int, int]
"""Where a value begins and where it ends."""


def _replaced(
    line: str, pattern: re.Pattern[str], spanned: Callable[[str, re.Match[str]], Span | None]
) -> str:
    """``line`` with the values gone that ``spanned`` finds behind ``pattern``; each character is read once."""
    parts, kept, at = [], 0, 0
    while found := pattern.search(line, at):
        span = spanned(line, found)
        if span is None:
            at = found.end() if found.end() > at else at + 1
            continue
        parts += [line[kept : span[0]], GONE]
        kept = at = span[1]
    return "".join((*parts, line[kept:]))


def _assigned(line: str, found: re.Match[str]) -> Span | None:
    """The value that a name with ``=`` or ``:`` is given."""
    start = name_start(line, found.start())
    begins = _HEAD.fullmatch(line, 0, start) is not None if start <= _NAME_MOST * 4 else False
    opened = line[start - 1 : start] in _OPENERS if start else False
    surely = "=" in found["sign"] or bool(found["quote"]) or opened or begins
    quote = _QUOTE.match(line, found.end())
    if quote is None and begins and found["sign"] == ":" and not opened:
        rest = line[found.end() :].strip()
        span = None if rest in _BEGINS_MORE else _spoken(line, (found.end(), len(line.rstrip())))
    elif quote is None and (around := _quote_before(line, start)) and not found["quote"]:
        span = _spoken(line, (found.end(), _closing(line, found.end(), around)))
    else:
        span = _value(line, found)
    if span is None or not found["likely"]:
        return span
    value = line[span[0] : span[1]]
    if _PATH.fullmatch(value):  # a file that holds a token is not one
        return None
    return span if surely or len(value) >= _PROSE_LONGEST or any(c.isdigit() for c in value) else None


def _value(line: str, found: re.Match[str]) -> Span | None:
    """The value that begins behind a match: what the quotes hold, or the run of characters there."""
    start = found.end()
    if quote := _QUOTE.match(line, start):
        return _spoken(line, (quote.end(), _closing(line, quote.end(), quote[0])))
    if scheme := _SCHEME.match(line, start):
        start = scheme.end()
    run = _RUN.match(line, start)
    assert run is not None  # the pattern takes nothing as well
    end = start + len(run[0].partition(",ValueFrom:")[0].rstrip("\\"))
    return None if line[start:end] in _BEGINS_MORE else _spoken(line, (start, end))


def _spoken(line: str, span: Span) -> Span | None:
    """``span`` unless it holds nothing, a word for nothing, or what is gone already."""
    start, end = span
    if end <= start or line.startswith(GONE, start) or _NO_VALUE.match(line, start, end):
        return None
    return span


def _quote_before(line: str, start: int) -> str:
    """The quote, with its backslashes, that opens the text in which a name comes first; '' for none."""
    if not start or line[start - 1] not in "\"'`":
        return ""
    at = start - 1
    while at > max(0, start - 9) and line[at - 1] == "\\":
        at -= 1
    return line[at:start]


def _closing(line: str, start: int, quote: str) -> int:
    """Where a quoted value ends that begins at ``start``: at the line's end if its quote never comes."""
    found = _closing_of(quote).search(line, start)
    return found.start() if found else len(line)


@cache
def _closing_of(quote: str) -> re.Pattern[str]:
    return re.compile(r"(?<!\\)" + re.escape(quote))


def _proxy(found: re.Match[str]) -> str:
    """A proxy without all that stands before its last @, which need not be a proper URL."""
    _, at, host = found[2].rpartition("@")
    return f"{found[1]}{GONE}@{host}" if at else found[0]


def _data_value(found: re.Match[str]) -> str:
    return found[1] + GONE if is_base64(found[2]) else found[0]


def _blob(found: re.Match[str]) -> str:
    """Long base64 goes; a hash in hexadecimal and a path stay."""
    text = found[0]
    mixed = (
        any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text)
    )
    return GONE if mixed and text.count("/") * 12 <= len(text) else text
