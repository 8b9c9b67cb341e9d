"""Chains of errors, freed of secrets.

The causes of an error are exceptions of a filesystem, whose texts may show what must not be shown:
Python prints them with the traceback, and Ray passes that on to its drivers.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from fsspill.secrets import redact

__all__ = ["RedactedError", "redact_chain", "redact_errors"]

F = TypeVar("F", bound=Callable[..., Any])


class RedactedError(Exception):
    """Takes the place of an exception whose text shows a secret; has its class and its text."""


def redact_errors(function: F) -> F:
    """Decorate a public function: the errors that it raises have no secret in their chains."""

    @functools.wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except BaseException as error:
            redact_chain(error)
            raise

    return guarded  # type: ignore[return-value]


def redact_chain(error: BaseException) -> None:
    """Replace the causes and contexts of an error, at any depth, that show a secret.

    Parameters
    ----------
    error : BaseException
        Remains the same object; its own message is that of an `fsspill.FsspillError`, which never
        has a secret. Members of exception groups and notes count too.

    Notes
    -----
    An exception that shows no secret remains in the chain as it is, so handlers find its class.
    """
    links = _links(error)
    safe = {id(link): _safe(link) for link in links[1:]} | {id(error): error}
    for link in links:
        shown = safe[id(link)]
        cause, context, suppress = link.__cause__, link.__context__, link.__suppress_context__
        shown.__cause__ = cause and safe[id(cause)]
        shown.__context__ = context and safe[id(context)]
        shown.__suppress_context__ = suppress
    if getattr(error, "__notes__", None):
        error.__notes__ = list(map(redact, error.__notes__))


def _links(error: BaseException) -> list[BaseException]:
    """Return an error and all exceptions of its chain, each once."""
    links, found = [error], {id(error)}
    for link in links:
        for other in (link.__cause__, link.__context__, *_members(link)):
            if other is not None and id(other) not in found:
                found.add(id(other))
                links.append(other)
    return links


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group, which Python 3.10 does not have."""
    return error.exceptions if sys.version_info >= (3, 11) and hasattr(error, "exceptions") else ()


def _safe(error: BaseException) -> BaseException:
    """Return an exception itself, or what takes its place."""
    text = _text(error)
    shown = redact(text)
    if shown == text and redact(str(error)) == str(error):
        return error
    return RedactedError(shown).with_traceback(error.__traceback__)


def _text(error: BaseException) -> str:
    """Return class, message, notes and members of an exception, as a traceback shows them."""
    own = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "; ".join([own, *map(_text, _members(error))])
