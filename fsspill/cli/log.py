"""The log of a command, on the error output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["show_warnings"]


class _Lines(logging.Handler):
    """Prints a record as a line, as errors are, on what is the error output then."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"fsspill: {record.getMessage()}", err=True)


@contextmanager
def show_warnings() -> Iterator[None]:
    """Print the warnings of fsspill during a block, and nothing that libraries log.

    They log with a traceback what fsspill tells in one line. A program that has set up its log
    keeps it as it is.
    """
    root, own = logging.getLogger(), logging.getLogger("fsspill")
    if root.handlers:
        yield
        return
    nowhere, lines = logging.NullHandler(), _Lines(logging.WARNING)
    root.addHandler(nowhere)
    own.addHandler(lines)
    try:
        yield
    finally:
        root.removeHandler(nowhere)
        own.removeHandler(lines)
