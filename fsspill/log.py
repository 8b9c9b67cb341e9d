"""The log of fsspill, through which no secret passes."""

from __future__ import annotations

import logging

from fsspill.secrets import redact

__all__ = ["get_logger"]


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module of this package; what it logs is redacted.

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
    if _redact_record not in logger.filters:
        logger.addFilter(_redact_record)
    return logger


def _redact_record(record: logging.LogRecord) -> bool:
    """Make message, traceback and stack of a record plain texts without secrets."""
    record.msg, record.args = redact(record.getMessage()), None
    if record.exc_info:
        # Not kept: a handler that formats it by itself would show the exceptions as they are.
        record.exc_text = redact(_formatter.formatException(record.exc_info))
        record.exc_info = None
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    return True


_formatter = logging.Formatter()
