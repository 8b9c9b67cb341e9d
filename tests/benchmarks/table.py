"""Rows as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

from fsspill.transfer.base import MIB

__all__ = ["TableRow", "aligned", "shown_requests", "shown_size", "shown_speed"]


class TableRow(Protocol):
    """What a table is made of.

    Attributes
    ----------
    headings : sequence of str
        Of the columns, the same for all rows of a table.
    cells : sequence of str
        What stands under them.
    """

    headings: ClassVar[Sequence[str]]

    @property
    def cells(self) -> Sequence[str]: ...


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return headings and rows as lines; columns of numbers are flush right.

    Parameters
    ----------
    table : sequence of sequence of str
        The headings first.
    """
    columns = [_padded(column) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _padded(column: Sequence[str]) -> Iterator[str]:
    width = max(map(len, column))
    numbers = all(_is_number(cell) for cell in column[1:])
    for cell in column:
        yield cell.rjust(width) if numbers else cell.ljust(width)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").isdigit()


def shown_size(nbytes: int) -> str:
    """Return bytes in the largest unit of which there is one."""
    units = ((2**30, "GiB"), (MIB, "MiB"), (2**10, "KiB"))
    return next(
        (f"{nbytes // unit} {name}" for unit, name in units if nbytes >= unit), f"{nbytes} B"
    )


def shown_speed(number: float) -> str:
    """Return a number without decimals, one below 10 with one."""
    return f"{number:,.1f}" if number < 10 else f"{number:,.0f}"


def shown_requests(requests: Mapping[str, int]) -> str:
    """Return how many there were of each operation of S3."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(requests.items())) or "-"
