"""Tables as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

from fsspill.bench.chart import shown_speed
from fsspill.bench.measure import shown_size

__all__ = ["TableRow", "aligned", "shown_requests", "shown_size", "shown_speed"]


class TableRow(Protocol):
    """A row of a table.

    Attributes
    ----------
    headings : sequence of str
        Headings of the columns, the same for all rows of a table.
    cells : sequence of str
        Cells of the row, one per heading.
    """

    headings: ClassVar[Sequence[str]]

    @property
    def cells(self) -> Sequence[str]: ...


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return headings and rows as lines, with columns of numbers aligned right.

    Parameters
    ----------
    table : sequence of sequence of str
        Headings and rows, in this order.
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


def shown_requests(requests: Mapping[str, int]) -> str:
    """Return the number of requests of each S3 operation."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(requests.items())) or "-"
