"""Tables of measurements as aligned text, and the same for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from fsspill.bench.chart import Panel, shown_speed
from fsspill.bench.contenders import RAY
from fsspill.bench.measure import Batch, Measurements, Sample
from fsspill.bench.run import Report

__all__ = ["panels", "report_as_json", "report_lines"]

_OPERATIONS: dict[str, Callable[[Measurements], Sequence[Sample]]] = {
    "spill": lambda each: each.spills,
    "restore": lambda each: each.restores,
}
_WIDTHS = (25, 6, 10, 10, 9)
"""Columns of names and numbers: 60 in all."""


def report_lines(report: Report) -> Iterator[str]:
    """Yield the lines of a report, for 60 columns."""
    for batch, operation, found in _tables(report):
        yield ""
        yield f"{operation} {batch}, {len(found[0].spills)} rounds"
        yield _line(("", "MiB/s", _ratio_title(report), "CPU s/GiB", "requests"))
        for each in found:
            yield _line(_cells(report, operation, each))
    yield ""
    for note in report.notes:
        yield from textwrap.wrap(f"Note: {note}", sum(_WIDTHS), subsequent_indent="  ")
    yield "To set:"
    for sentence in report.advice:
        yield from textwrap.wrap(
            f"  {sentence}", sum(_WIDTHS), subsequent_indent="    ", break_long_words=False
        )


def _tables(report: Report) -> Iterator[tuple[Batch, str, list[Measurements]]]:
    for batch in dict.fromkeys(each.batch for each in report.measured):
        for operation in _OPERATIONS:
            yield batch, operation, [each for each in report.measured if each.batch == batch]


def _ratio_title(report: Report) -> str:
    return "x Ray's" if _has_ray(report) else "x default"


def _has_ray(report: Report) -> bool:
    return any(each.contender.name == RAY for each in report.measured)


def _line(cells: Sequence[str]) -> str:
    name, *numbers = (
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )
    return "".join([name, *numbers]).rstrip()


def _cells(report: Report, operation: str, found: Measurements) -> tuple[str, ...]:
    samples = _OPERATIONS[operation](found)
    requests = round(median(each.writes + each.reads for each in samples))
    return (
        found.contender.name,
        shown_speed(found.speed(samples)),
        f"{_ratio(report, operation, found):.2f}",
        f"{found.cpu_seconds_per_gib(samples):.2f}",
        f"{requests:,}" if found.contender.count else "-",
    )


def _ratio(report: Report, operation: str, found: Measurements) -> float:
    """Return the speed relative to the baseline: the median of the rounds' ratios."""
    ours = _OPERATIONS[operation](found)
    theirs = _OPERATIONS[operation](report.baseline(found.batch))
    return median(other.seconds / own.seconds for own, other in zip(ours, theirs, strict=True))


def panels(report: Report) -> list[Panel]:
    """Return the bars of a report."""
    return [
        Panel(
            f"{operation} {batch}",
            [(each.contender.name, each.speed(_OPERATIONS[operation](each))) for each in found],
        )
        for batch, operation, found in _tables(report)
    ]


def report_as_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it."""
    return {
        "uri": report.uri,
        "measurements": [
            _as_json(report, operation, each)
            for _, operation, found in _tables(report)
            for each in found
        ],
        "baseline": RAY if _has_ray(report) else "fsspill",
        "notes": report.notes,
        "to_set": report.advice,
        "files_left": report.files_left,
    }


def _as_json(report: Report, operation: str, found: Measurements) -> dict[str, Any]:
    samples = _OPERATIONS[operation](found)
    return {
        "operation": operation,
        "contender": found.contender.name,
        "objects": found.batch.count,
        "object_bytes": found.batch.size,
        "rounds": len(samples),
        "mib_per_second": found.speed(samples),
        "ratio": _ratio(report, operation, found),
        "cpu_seconds_per_gib": found.cpu_seconds_per_gib(samples),
        "writes": median(each.writes for each in samples) if found.contender.count else None,
        "reads": median(each.reads for each in samples) if found.contender.count else None,
    }
