"""The measurement of hedged requests runs, and compares the same restores."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from tests.benchmarks import tail
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.tail import Restores, measure
from tests.instances import forgotten

pytest.importorskip("s3fs")


def test_both_sides_are_measured_by_turns() -> None:
    """Each restore makes the 18 requests of its ranges, and those that are hedged besides."""
    with (
        LinkServer() as server,
        forgotten("s3"),
        mock.patch.dict(os.environ, server.environment),
        mock.patch.object(tail, "_UNMEASURED", 1),
    ):
        server.create_bucket("bucket")
        plain, hedged = measure(server, "without", 2)
    assert (plain.hedged, hedged.hedged) == (False, True)
    assert len(plain.seconds) == len(hedged.seconds) == 2
    assert plain.requests % 2 == 0
    assert plain.requests <= hedged.requests


def test_a_quantile_is_a_restore() -> None:
    """The slowest of a hundred is the 99th percentile and the last."""
    row = Restores("x", True, [float(number) for number in range(100)], 0)
    assert (row.quantile(0.5), row.quantile(0.99), row.quantile(1.0)) == (50, 99, 99)
