"""The text of a Prometheus endpoint, as samples of fsspill's metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsspill.metrics import METRICS, Sample

__all__ = ["SUFFIXES", "parse"]

SUFFIXES = {"counter": "_total", "gauge": "", "histogram": "_bucket"}
"""Ends of the names of the samples that are read, by kind of their metric."""

_LINE = re.compile(r"(ray_fsspill_\w+)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")

_NAMES = {f"ray_{name}{SUFFIXES[metric.kind]}": name for name, metric in METRICS.items()}


def parse(text: str) -> Iterator[Sample]:
    """Yield the samples of fsspill's metrics under the names of `METRICS`; of histograms, buckets.

    Older Rays export each counter a second time, as a gauge without ``_total``.
    """
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match[1] in _NAMES:
            labels = {name: _unescape(value) for name, value in _LABEL.findall(match[2] or "")}
            yield Sample(_NAMES[match[1]], labels, float(match[3]))


def _unescape(value: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
