"""One look at the metrics of all nodes."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from fsspill.errors import ConfigError
from fsspill.metrics import Sample
from fsspill.monitoring.exposition import parse

__all__ = ["Scrape", "metrics_url", "scrape"]

_TIMEOUT = 3.0
"""Seconds of silence after which an endpoint does not answer."""

_CONCURRENT = 32
"""Endpoints that are asked at a time."""

# The nodes are inside of the cluster: a proxy of the environment does not reach them.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Scrape:
    """The answers of the endpoints.

    Attributes
    ----------
    time : float
        Seconds of a monotonic clock.
    samples : mapping
        By the host and port of each endpoint that answered, the samples of fsspill's metrics.
    failures : mapping
        By the host and port of each that did not, the reason.
    """

    time: float
    samples: Mapping[str, Sequence[Sample]]
    failures: Mapping[str, str]


def metrics_url(place: str) -> str:
    """Return the URL of an endpoint for its host and port, or for a URL with or without a path.

    Raises
    ------
    ConfigError
        It is neither.
    """
    url = place if "://" in place else f"http://{place}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"cannot read metrics from {place!r}: expected the URL of an endpoint for Prometheus, "
            "as in http://10.0.0.1:8080/metrics, or its host and port."
        )
    return url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/metrics"


def scrape(urls: Sequence[str]) -> Scrape:
    """Ask all endpoints, several at a time.

    Parameters
    ----------
    urls : sequence of str
        The URLs of the endpoints; see `metrics_url`.
    """
    now = time.monotonic()
    samples, failures = {}, {}
    with ThreadPoolExecutor(_CONCURRENT) as threads:
        for url, answer in zip(urls, threads.map(_ask, urls), strict=True):
            place = urlsplit(url).netloc
            if isinstance(answer, str):
                failures[place] = answer
            else:
                samples[place] = answer
    return Scrape(now, samples, failures)


def _ask(url: str) -> list[Sample] | str:
    """Return the samples of an endpoint, or why there are none."""
    try:
        with _DIRECT.open(url, timeout=_TIMEOUT) as answer:
            return list(parse(answer.read().decode()))
    except urllib.error.URLError as error:  # HTTPError is one
        reason = error.reason
        return (isinstance(reason, OSError) and reason.strerror) or str(reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
