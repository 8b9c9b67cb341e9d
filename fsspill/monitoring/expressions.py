"""Expressions of PromQL about fsspill's metrics, as Ray exports them.

Those of the dashboard select by its variables; those of alerts have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fsspill.metrics import METRICS
from fsspill.monitoring.exposition import SUFFIXES
from fsspill.storage.prices import PRICES
from fsspill.storage.protocols import PROTOCOLS

__all__ = ["FAILED", "SUCCESSFUL", "dollars", "grew", "quantile", "rate", "series"]

_VARIABLES = {"node": "$node", "uri": "$uri"}
"""Variables of the dashboard, by the label that each selects."""

SUCCESSFUL = ("success", "missing", "superseded")
"""Outcomes of requests that are no errors: a file that is looked for may be missing, and of two
requests for the same bytes one is cancelled."""

FAILED = f'outcome!~"{"|".join(SUCCESSFUL)}"'
"""The others."""

_CHARGED = "|".join((*SUCCESSFUL, "refused"))
"""Outcomes of requests that are paid for: answers of the storage that are no error of its own."""

_OPERATIONS = {
    "write": "put|put_part|create_multipart|complete_multipart|list",
    "read": "get|head",
}
"""Operations by the price that they have; deletions and aborted uploads are free."""


def series(name: str, *matchers: str, variables: bool = True) -> str:
    """Return the selector of a metric's series, for a histogram of its buckets.

    Parameters
    ----------
    name : str
        Name of the metric, without what Ray adds.
    *matchers : str
        Conditions on its labels, in PromQL.
    variables : bool
        True to select the nodes and URIs of the dashboard's variables.
    """
    metric = METRICS[name]
    labels = ("node", *metric.labels) if variables else ()
    chosen = [f'{label}=~"{_VARIABLES[label]}"' for label in labels if label in _VARIABLES]
    conditions = ",".join([*chosen, *matchers])
    return f"ray_{name}{SUFFIXES[metric.kind]}" + f"{{{conditions}}}" * bool(conditions)


def rate(by: str, name: str, *matchers: str, over: str = "$__rate_interval") -> str:
    """Return the sum of the rates of a counter in a second, by labels."""
    variables = over.startswith("$")
    return f"sum by ({by}) (rate({series(name, *matchers, variables=variables)}[{over}]))"


def quantile(q: float, by: str, name: str, over: str = "$__rate_interval") -> str:
    """Return a quantile of a histogram, by labels."""
    return f"histogram_quantile({q}, {rate(f'{by}, le', name, over=over)})"


def grew(by: str, name: str, over: str) -> str:
    """Return a condition: a counter has grown, or come into being.

    ``increase`` alone does not see the first event, with which the series begins.
    """
    found = series(name, variables=False)
    grown = f"sum by ({by}) (increase({found}[{over}])) > 0"
    return f"{grown} or sum by ({by}) ({found} unless {found} offset {over}) > 0"


def dollars(change: str, over: str) -> str:
    """Return what requests cost by URI, at the list prices of AWS, Google and Azure.

    Parameters
    ----------
    change : {"rate", "increase"}
        The function of PromQL: for dollars in a second, or in all of the time.
    over : str
        That time.
    """
    return f"sum by (uri) ({' or '.join(_terms(change, over))})"


def _terms(change: str, over: str) -> Iterator[str]:
    for extra, price in PRICES.items():
        protocols = "|".join(name for name, traits in PROTOCOLS.items() if traits.extra == extra)
        prices: Mapping[str, float] = {"write": price.write, "read": price.read}
        for kind, operations in _OPERATIONS.items():
            found = series(
                "fsspill_requests",
                f'uri=~"({protocols})://.*"',
                f'operation=~"{operations}"',
                f'outcome=~"{_CHARGED}"',
            )
            yield f"{prices[kind]:g} * {change}({found}[{over}])"
