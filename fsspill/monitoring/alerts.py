"""Alert rules for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsspill.monitoring.expressions import FAILED, grew, quantile, rate, series

__all__ = ["ALERTS", "Alert", "make_rules"]


class Alert(NamedTuple):
    """One rule.

    Attributes
    ----------
    name : str
        Its name.
    expression : str
        The condition, in PromQL.
    lasting : str
        How long it has to hold.
    severity : {"critical", "warning"}
        Critical where objects are lost.
    summary : str
        What happened, with labels in the template language of Prometheus.
    advice : str
        What to do.
    """

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str
    advice: str


_NODE = "node, NodeAddress"

ALERTS = (
    Alert(
        "FsspillObjectsLost",
        grew(f"{_NODE}, reason", "fsspill_lost_objects", "15m"),
        "0m",
        "critical",
        "Node {{ $labels.NodeAddress }} has lost spilled objects: {{ $labels.reason }}.",
        "ray.get raises SpilledObjectLostError, which names the object and its URL.",
    ),
    Alert(
        "FsspillCircuitOpen",
        f"max by ({_NODE}, uri) ({series('fsspill_circuit_open', variables=False)}) > 0",
        "5m",
        "warning",
        "Node {{ $labels.NodeAddress }} cannot write to {{ $labels.uri }}.",
        "It spills to its other URIs or to its disk. The reason is in the logs of its IO workers.",
    ),
    Alert(
        "FsspillRequestsFail",
        f"{rate('uri', 'fsspill_requests', FAILED, over='10m')}"
        f" / {rate('uri', 'fsspill_requests', over='10m')} > 0.05",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.uri }} fail.",
        "Throttling and time-outs slow down spilling. The dashboard has the outcomes.",
    ),
    Alert(
        "FsspillWrongBytes",
        grew("uri, tier", "fsspill_digest_mismatches", "15m"),
        "0m",
        "warning",
        "Wrong bytes were read from {{ $labels.tier }} of {{ $labels.uri }}.",
        "They were not restored, and are read again. If it lasts, a disk or the storage is bad.",
    ),
    Alert(
        "FsspillObjectsRefused",
        grew(_NODE, "fsspill_refused_objects", "15m"),
        "0m",
        "warning",
        "No URI takes some objects of node {{ $labels.NodeAddress }}.",
        "They stay in its memory. The drivers are told the reason.",
    ),
    Alert(
        "FsspillRestoresSlow",
        f"{quantile(0.99, 'tier', 'fsspill_restore_seconds', over='10m')} > 30",
        "10m",
        "warning",
        "One of 100 restores from {{ $labels.tier }} takes more than 30 seconds.",
        "ray.get waits for them. Compare with fsspill bench on a node.",
    ),
    Alert(
        "FsspillDeletionsWait",
        f"sum by ({_NODE}) ({series('fsspill_pending_deletions', variables=False)}) > 100",
        "30m",
        "warning",
        "Node {{ $labels.NodeAddress }} cannot delete {{ $value }} files.",
        "They take space until fsspill clean removes them. The logs of its IO workers say why.",
    ),
)


def make_rules() -> str:
    """Return the rules as YAML."""
    return "\n".join(
        [
            "# Alert rules for Prometheus, written by fsspill dashboard.",
            "groups:",
            "- name: fsspill",
            "  rules:",
            *(line for alert in ALERTS for line in _lines(alert)),
            "",
        ]
    )


def _lines(alert: Alert) -> Iterator[str]:
    yield f"  - alert: {alert.name}"
    yield f"    expr: {_quoted(alert.expression)}"
    yield f"    for: {alert.lasting}"
    yield "    labels:"
    yield f"      severity: {alert.severity}"
    yield "    annotations:"
    yield f"      summary: {_quoted(alert.summary)}"
    yield f"      description: {_quoted(alert.advice)}"


def _quoted(text: str) -> str:
    """Return a text in single quotes, in which YAML has no escapes but for that quote."""
    return "'" + text.replace("'", "''") + "'"
