"""Configurations with comments, as YAML, as Python and as plain objects.

A key or an item that begins with ``#`` is a comment on what comes after it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["comment", "to_python", "to_yaml", "without_comments"]

_WIDTH = 60
"""Columns of comments: of a narrow terminal."""

_NARROWEST = 36
"""Columns that a comment has at least, however far it is indented."""

_QUANTITY = re.compile(r"(\d) (?=[A-Za-z])")
"""The space between a number and its unit, where no line ends."""

_PLAIN = re.compile(r"[A-Za-z/][\w./-]*")
_WORDS_OF_YAML = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def comment(text: str, indent: int = 0) -> list[str]:
    """Return the lines of a comment, indented; each paragraph of `text` is wrapped by itself."""
    width = max(_WIDTH - indent - 2, _NARROWEST)
    lines = [
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(
            _QUANTITY.sub("\\1\xa0", paragraph),
            width,
            break_long_words=False,
            break_on_hyphens=False,
            subsequent_indent=" " * (len(paragraph) - len(paragraph.lstrip())),
        )
        or [""]
    ]
    return [f"{' ' * indent}# {line}".rstrip().replace("\xa0", " ") for line in lines]


def without_comments(value: Any) -> Any:
    """Return a configuration for programs."""
    if isinstance(value, Mapping):
        return {
            name: without_comments(each) for name, each in value.items() if not _is_comment(name)
        }
    if isinstance(value, list):
        return [without_comments(each) for each in value if not _is_comment(each)]
    return value


def _is_comment(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("#")


def to_yaml(value: Any, indent: int = 0) -> str:
    """Return a configuration as a block of YAML."""
    return "\n".join(_yaml_lines(value, indent))


def _yaml_lines(value: Any, indent: int) -> Iterator[str]:
    space = " " * indent
    if isinstance(value, list):
        for each in value:
            yield from _item_lines(each, indent)
        return
    for name, each in value.items():
        if _is_comment(name):
            yield from comment(name[1:].lstrip(), indent)
        elif isinstance(each, (Mapping, list)) and each:
            yield f"{space}{name}:"
            # As Kubernetes writes it: a list is not indented below its name.
            yield from _yaml_lines(each, indent + 2 * isinstance(each, Mapping))
        else:
            yield f"{space}{name}: {_scalar(each)}"


def _item_lines(item: Any, indent: int) -> Iterator[str]:
    """Yield an item of a list, after the comments that it begins with."""
    space = " " * indent
    if _is_comment(item):
        yield from comment(item[1:].lstrip(), indent)
        return
    if not isinstance(item, Mapping):
        yield f"{space}- {_scalar(item)}"
        return
    names = list(item)
    while _is_comment(names[0]):
        yield from comment(names.pop(0)[1:].lstrip(), indent)
    lines = list(_yaml_lines({name: item[name] for name in names}, indent + 2))
    yield f"{space}- {lines[0].lstrip()}"
    yield from lines[1:]


def _scalar(value: Any) -> str:
    """Return a value in YAML, of which JSON is a part."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    single = '"' in value and "'" not in value and value.isprintable()
    # YAML has no pairs of surrogates, with which JSON escapes what is beyond 16 bits.
    return f"'{value}'" if single else json.dumps(value, ensure_ascii=not value.isprintable())


def to_python(value: Mapping[str, Any], indent: int = 0) -> str:
    """Return a configuration as a literal of Python, with an entry a line."""
    space = " " * (indent + 4)
    lines = ["{"]
    for name, each in value.items():
        if _is_comment(name):
            lines += comment(name[1:].lstrip(), indent + 4)
        else:
            shown = to_python(each, indent + 4) if isinstance(each, Mapping) else _literal(each)
            lines.append(f"{space}{json.dumps(name)}: {shown},")
    return "\n".join([*lines, f"{' ' * indent}}}"])


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, list)) else repr(value)
