"""Forms of secrets in texts.

The usual forms of those whose values are not known, and the encodings of known values that messages
use.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote, quote_plus

__all__ = ["SHOWN", "encodings", "has_password", "hidden_parts", "redact_forms"]

SHOWN = "***"
"""Takes the place of a secret."""

_SHORTEST_LINE = 8
"""Characters of a line, and bytes of a value, below which its encodings alone may occur in any
text: `encodings` leaves them out."""

# All begin at a fixed word or at the start of a name, so that no text is looked at more than a few
# times.
_WORD = (
    r"(?:secret|token|password|passwd|passphrase|signature|credential|\bsig|(?:access|account|api"
    r"|application|customer|encryption|master|private|secret|shared)[_-]?key)"
)
_START = r"(?:(?<![\w-])|(?<=\\u0026)|(?<=%26)|(?<=%3F)|(?<=%2526))"
_NAME = rf"{_START}(?:[\w-]*?{_WORD}|sig)"
_NO_SECRET = r"(?:None|True|False|null|true|false|anon|browser|cache|cloud|google_default)"
_NOTHING = rf"(?!{_NO_SECRET}?(?:[\s,;)\]}}&\"']|$))"
_AFTER_NAME = r"(?:\\*[\"'])?\s*[=:]\s*"
_PAIR = rf"\(b?[\"']{_NAME}[\"'],\s*"
_WRAPPER = r"(?:[\w.]+\()?"
_ENCODED = r"%(?:25)*"
_SPACE = r"(?:[ +]|%20)"
_BLOCK = rf"{_SPACE}(?:[A-Z0-9]+{_SPACE})*PRIVATE{_SPACE}KEY(?:{_SPACE}BLOCK)?-----"

_PRIVATE_KEY = rf"()-----BEGIN{_BLOCK}(?s:.*?)(?:-----END{_BLOCK}|\Z)"
_ITEM = (
    rf"(?i)((?:{_NAME}{_AFTER_NAME}|{_PAIR}){_WRAPPER})b?"
    rf"(?:\"{_NOTHING}(?:\\.|[^\"\\])*\"?|'{_NOTHING}(?:\\.|[^'\\])*'?)"
)
_ESCAPED_ITEM = rf"(?i)({_NAME}{_AFTER_NAME}b?(\\+)([\"']))(?s:.+?)(?:(?=(?<!\\)\2\3)|\Z)"
_ASSIGNMENT = rf"(?i)({_NAME}\s*=\s*){_NOTHING}(?:(?!\\u0026)[^\s&;,\"'<>])+"
_ENCODED_ASSIGNMENT = rf"(?i)({_NAME}{_ENCODED}3D)(?:(?!{_ENCODED}26)[^\s&;,\"'<>])+"
_LINE = rf"(?im)(^[ \t]*(?:-[ \t]+)?{_NAME}:[ \t]+){_NOTHING}[^\s\"']+(?=[ \t]*$)"
_FIELD = rf"(?i)(?<![\w-])(\w+-[\w-]*{_WORD}:[ \t]+){_NOTHING}[^\s\"',;]+"
_ARGUMENT = rf"(?i)((?<![\w-])--[\w-]*{_WORD}\s+)(?!-)[^\s\"']+"
_ELEMENT = rf"(?i)(<\w*{_WORD}>\s*)[^<\s][^<]*(?=<)"
_CONNECTION_STRING = r"(?i)(SharedAccessSignature=)[^;\s\"']+"
_HEADER = (
    r"(?i)(\b(?:authorization|cookie)(?:(?:\\*[\"'])?\s*[:=]|[\"'],)\s*b?(?:\\*[\"'])?)"
    r"[^\"'\\\r\n]+"
)
_SCHEME = r"(\b(?:[Bb]earer|[Bb]asic)\s+)(?=[^\s\"']*[0-9A-Z=])[\w.~+/=-]{8,}"
_TOKEN = r"()\b(?:eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*|ya29\.[\w.-]+|GOCSPX-[\w-]+)"
_PORT = r"(?!\d+(?:[/?#\"',;)\]}\s]|$))"
_USER_INFO = rf"(:(?:\\?/){{2}}[^\s/:]*:){_PORT}[^\s/]*(?=@)"
# A slash in the password: the URI is none, and is shown by the message that says so.
_WITH_SLASH = rf"(://(?!arn:)[^\s/:@\[]+:){_PORT}(?!/)[^\s/@\"']{{0,99}}/[^\s@\"']{{0,99}}(?=@)"
_ENCODED_USER_INFO = (
    rf"(?i)({_ENCODED}3A(?:{_ENCODED}2F){{2}}(?:(?!{_ENCODED}(?:3A|2F))[^\s\"']){{0,99}}{_ENCODED}3A)"
    rf"(?:(?!{_ENCODED}2F)[^\s\"']){{0,299}}(?={_ENCODED}40)"
)
_PROXY = r"(?i)(_proxy[\"']?\s*[=:]\s*b?[\"']?[^\s:@/\"']{0,99}:)[^\s/\"']{0,299}(?=@)"
_QUOTED_USER_INFO = r"([\"'][^\s:@/\"']+:)[^\s\"'/@]+(?=@[\w.\[\]-]+(?::\d+)?[\"'/])"

_FORMS = (
    _ESCAPED_ITEM, _CONNECTION_STRING, _ASSIGNMENT, _ENCODED_ASSIGNMENT, _HEADER, _LINE, _FIELD,
    _ARGUMENT, _ELEMENT, _SCHEME, _TOKEN, _USER_INFO, _WITH_SLASH, _ENCODED_USER_INFO, _PROXY,
    _QUOTED_USER_INFO,
)  # fmt: skip


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return the forms with what is shown of each, compiled for the first text."""
    first = [(re.compile(_PRIVATE_KEY), SHOWN), (re.compile(_ITEM), rf"\1'{SHOWN}'")]
    return first + [(re.compile(form), rf"\1{SHOWN}") for form in _FORMS]


def redact_forms(text: str) -> str:
    """Return `text` with ``***`` in the place of what has the form of a secret."""
    for pattern, shown in _patterns():
        text = pattern.sub(shown, text)
    return text


def has_password(uri: str) -> bool:
    """Return True if a URI has a user and a password in front of its host."""
    return any(re.search(form, uri) for form in (_USER_INFO, _WITH_SLASH))


def hidden_parts(text: str) -> Iterator[str]:
    """Yield the parts of `text` for which `redact_forms` shows ``***``."""
    for pattern, _ in _patterns():
        for match in pattern.finditer(text):
            yield match[0].removeprefix(match[1]).strip("\"'")


def encodings(value: str) -> Iterator[str]:
    """Yield a known secret as messages may show it.

    That is as it is, percent-encoded, in JSON, in the notation of Python for texts and bytes, in
    XML and HTML, for a shell, each also in one of the others where that happens; and if it is long
    enough, each of its lines, hexadecimal, and base64 whatever surrounds it.
    """
    raw = value.encode(errors="surrogatepass")
    plain = {value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]}
    plain |= {show(value)[1:-1] for show in (repr, ascii)} | {repr(raw)[2:-1]}
    yield from plain
    for form in plain:
        yield from (json.dumps(form)[1:-1], repr(form)[1:-1], _with_escaped_quotes(form))
    yield from _of_the_web(raw)
    yield from (html.escape(value, quote=False), html.escape(value), shlex.quote(value)[1:-1])
    yield from (line for line in value.splitlines() if _is_secret_line(line))
    if len(raw) >= _SHORTEST_LINE:
        yield raw.hex()
        yield from _in_base64(raw)


def _with_escaped_quotes(text: str) -> str:
    """Return a text as in the notation of Python for a longer one with quotes of both kinds."""
    both = "'\""
    return repr(both + text)[len(repr(both)) - 1 : -1]


def _of_the_web(raw: bytes) -> Iterator[str]:
    """Yield percent-encodings; `redact` matches their digits in upper and lower case."""
    whole = quote(raw, safe="")
    yield from (whole, quote(whole, safe=""), quote(raw), quote_plus(raw))


def _is_secret_line(line: str) -> bool:
    return len(line.strip()) >= _SHORTEST_LINE and not line.startswith("-----")


def _in_base64(raw: bytes) -> Iterator[str]:
    """Yield the characters of base64 that depend on nothing but `raw`, by what is in front."""
    for before in range(3):
        length = (before + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            shown = encode(bytes(before) + raw)[-(-before * 8 // 6) : length].decode()
            yield shown
            yield quote(shown, safe="")
