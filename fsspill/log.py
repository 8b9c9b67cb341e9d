"""The log of fsspill: no secret passes through it, and one incident is one line.

A storage that is down fails thousands of requests. So every line of WARNING and above is reported
when its incident begins, then after 1, 3, 7 and 15 minutes, and every 10 minutes from then on as
long as it lasts, wherever in the package it is logged.
"""

from __future__ import annotations

import logging
import re
import time
from typing import NamedTuple

from fsspill.secrets import redact

__all__ = ["FIRST_PAUSE", "LIMITED", "Incident", "follow", "get_logger"]

FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 600.0
"""Seconds between two reports of an incident that lasts: doubled from the first to the longest. A
driver that connects meanwhile has not seen the first."""

_OVER_AFTER = 120.0
"""Seconds without a sign of an incident after which the next one is another incident. Ray asks for
an object that cannot be restored within this time."""

_LONGEST_TEXT = 1000
"""Characters of a text by which it is told from others: an error may have a whole page."""

_CAPACITY = 1000
"""Incidents that are kept in memory."""

LIMITED = {"limited": True}
"""The ``extra`` of a line whose caller limits its lines by itself."""

_LOCATION = re.compile(r"((?:\w+:/)?(?:/[^\s/?]*){1,3})\S*")
"""A URI or path: with its first three components, which are those of a storage and a node."""

_NUMBERED = re.compile(r"(?<!\S)[^\s/]*\d[^\s/]*(?!\S)")
"""Words with digits: numbers, and ids of objects and requests."""


class Incident(NamedTuple):
    """An incident as it was reported so far; times are in seconds, of any clock."""

    reported: float
    """Time of the last report."""

    pause: float
    """Seconds from that until the next one."""

    seen: float
    """Time of its last sign."""

    def is_quiet(self, now: float) -> bool:
        """Return True if it lasts, and was reported within the pause."""
        return self._lasts(now) and now - self.reported < self.pause

    def _lasts(self, now: float) -> bool:
        # A report of the future: the clock was set back.
        return self.reported <= now < self.seen + _OVER_AFTER

    def seen_again(self, now: float) -> Incident:
        """Return it after another sign, which is a report if it is not quiet."""
        if self.is_quiet(now):
            return self._replace(seen=now)
        if not self._lasts(now):
            return Incident(now, FIRST_PAUSE, now)
        return Incident(now, min(2 * self.pause, _LONGEST_PAUSE), now)


def follow(last: Incident | None, now: float) -> tuple[Incident, bool]:
    """Return an incident after a sign of it, and True if that is to be reported."""
    if last is None:
        return Incident(now, FIRST_PAUSE, now), True
    return last.seen_again(now), not last.is_quiet(now)


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module of this package; what it logs is redacted and limited.

    Parameters
    ----------
    name : str
        The module's ``__name__``.

    Notes
    -----
    The filter belongs to the logger of each module: those of a parent are not asked for the records
    of its children, and handlers belong to the program.
    """
    logger = logging.getLogger(name)
    if _filter not in logger.filters:
        logger.addFilter(_filter)
    return logger


def _filter(record: logging.LogRecord) -> bool:
    _redact_record(record)
    return record.levelno < logging.WARNING or hasattr(record, "limited") or _is_due(record)


def _redact_record(record: logging.LogRecord) -> None:
    """Make message, traceback and stack of a record plain texts without secrets."""
    record.msg, record.args = redact(record.getMessage()), None
    if record.exc_info:
        # Not kept: a handler that formats it by itself would show the exceptions as they are.
        record.exc_text = redact(_formatter.formatException(record.exc_info))
        record.exc_info = None
    if record.stack_info:
        record.stack_info = redact(record.stack_info)


_formatter = logging.Formatter()

_Key = tuple[str, int, str]
_reported: dict[_Key, tuple[Incident, int]] = {}
"""Incidents by the place in the code and the text, each with the lines that were left out."""


def _is_due(record: logging.LogRecord) -> bool:
    """Return True if a line is the report of an incident; count it if it is not."""
    key = (record.name, record.lineno, _shape(record.msg))
    # No lock, which a forked child would find held: at worst two threads report the same.
    last, left_out = _reported.pop(key, (None, 0))
    incident, is_due = follow(last, time.monotonic())
    _reported[key] = (incident, 0 if is_due else left_out + 1)
    if len(_reported) > _CAPACITY:
        oldest, *_ = list(_reported)
        _reported.pop(oldest, None)
    if is_due and left_out:
        record.msg += f" ({left_out} more lines like this since the last one)"
    return is_due


def _shape(text: str) -> str:
    """Return what the lines of an incident have in common: not the file, the object, a number."""
    return _NUMBERED.sub("#", _LOCATION.sub(r"\1", text[:_LONGEST_TEXT]))
