"""The messages of a package, found in its source: what its users may read when something fails.

They are of two kinds. A string that is handed to an exception, to the log from WARNING on, to the
drivers or to standard error is one, however short. Any other string that reads like prose is taken
for a part of one, such as a constant, a row of a table, or what a helper returns, unless it is a
docstring, a line of the log below WARNING, or in a module whose texts are something else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

PLACEHOLDER = "…"

_Use: TypeAlias = Literal["none", "raised", "logged", "shown", "other"]
"""Use of a string: it is handed to an exception, to the log, to something else that users read, to
what is not a message, or it is not known."""

_FEWEST_WORDS: dict[_Use, int] = {"raised": 1, "logged": 1, "shown": 2, "other": 3}
"""Words that make a message: a name may be an argument too."""

_LOGGED = frozenset({"critical", "error", "exception", "log", "warning"})
_QUIET = frozenset({"debug", "info"})
_SHOWN = frozenset(
    {
        "exit",
        "fail",
        "notify",
        "publish_error_to_driver",
        "push_error_to_driver",
        "translate",
        "warn",
    }
)
"""Functions and methods whose arguments users read."""

_NOT_READ = frozenset({("re", "compile"), ("", "cast")})
_PRINTING = frozenset({"echo", "print", "secho", "write"})
_EXCEPTION = re.compile(
    r"(([Ee]rror|Exception|Warning|Usage|Exit)$|^(BadParameter|cls|kind|type\(.*)$)"
)
_FORMAT = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]")
_WORD = re.compile(r"(?<![\w.])[A-Za-z][a-z']+(?![\w=(])")
_BEGINNINGS = ("cannot ", "could not ")
"""Beginnings of parts of messages, however short."""


class Message(NamedTuple):
    """A message."""

    text: str
    """The message, with a placeholder for each value that is put in."""

    place: str
    """The file and line."""


def messages(package: Path, other_texts: Collection[str]) -> list[Message]:
    """Return the messages of a package, in the order of its files.

    Parameters
    ----------
    package : Path
        The folder.
    other_texts : collection of str
        Files in it, or folders with a "/" at their end, whose prose is something else. What they
        hand to an exception or a log is a message all the same.
    """
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        module = _Module(ast.parse(path.read_text()))
        module.default = "none" if name.startswith(tuple(other_texts)) else "other"
        for text, line in module.messages():
            found.append(Message(text, f"{package.name}/{name}:{line}"))
    return found


class _Module:
    """The strings of a module, and their uses."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self.default: _Use = "other"
        self._handed_on = {
            argument.id: use
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and (use := _use_of_arguments(call))
            for argument in (*call.args, *(each.value for each in call.keywords))
            if isinstance(argument, ast.Name)
        }

    def messages(self) -> Iterator[tuple[str, int]]:
        """Yield the template and the line of each message."""
        return self._below(self._tree, self.default)

    def _below(self, node: ast.AST, use: _Use) -> Iterator[tuple[str, int]]:
        text = template(node)
        if text is not None and isinstance(node, ast.expr):
            text = " ".join((_FORMAT.sub(PLACEHOLDER, text) if use == "logged" else text).split())
            if _is_message(text, use):
                yield text, node.lineno
        for child in _children(node) if text is None else _values(node):
            yield from self._below(child, self._use_of(child, node, use))

    def _use_of(self, child: ast.AST, node: ast.AST, use: _Use) -> _Use:
        """Return the use of a string that is directly below a node."""
        match node:
            case ast.Call(func=function):
                return (child is not function and _use_of_arguments(node)) or self.default
            case ast.BoolOp() | ast.FormattedValue() | ast.IfExp() | ast.Starred() | ast.keyword():
                return use
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                return self._handed_on.get(name, self.default)
        return self.default


def template(node: ast.AST) -> str | None:
    """Return a string expression with a placeholder for each value; None for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(template(value) or PLACEHOLDER for value in values)
        case ast.BinOp(left=left, op=ast.Mod()) if known := template(left):
            return _FORMAT.sub(PLACEHOLDER, known)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = template(left), template(right)
            return None if parts == (None, None) else "".join(each or PLACEHOLDER for each in parts)
        case ast.Call(func=ast.Attribute(value=value, attr="format")) if known := template(value):
            return re.sub(r"\{[^{}]*\}", PLACEHOLDER, known)
    return None


def _is_message(text: str, use: _Use) -> bool:
    if use == "other" and (" " not in text or text.startswith(_BEGINNINGS)):
        return " " in text
    return len(_WORD.findall(text)) >= _FEWEST_WORDS.get(use, inf)


def _values(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is put into a string expression: there may be others in it."""
    for child in _children(node):
        if template(child) is not None:
            yield from _values(child)
        elif not isinstance(child, ast.Attribute):  # such as "...".format
            yield child


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all that is below a node, but for docstrings and types."""
    is_alias = isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation)
    for name, value in ast.iter_fields(node):
        if is_alias or name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not is_docstring:
                yield child


def _use_of_arguments(call: ast.Call) -> _Use | None:
    receiver, _, name = ast.unparse(call.func).rpartition(".")
    if receiver.endswith("logger") and name in _LOGGED | _QUIET:
        return "none" if name in _QUIET else "logged"
    if (receiver, name) in _NOT_READ:
        return "none"
    if _EXCEPTION.search(name):
        return "raised"
    prints = name in _PRINTING and _is_to_standard_error(call, receiver)
    return "shown" if prints or name.lstrip("_") in _SHOWN else None


def _is_to_standard_error(call: ast.Call, receiver: str) -> bool:
    options = {each.arg: ast.unparse(each.value) for each in call.keywords}
    return options.get("err") == "True" or "err" in options.get("file", receiver).lower()
