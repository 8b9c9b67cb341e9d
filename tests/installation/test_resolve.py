"""The metadata of fsspill has a solution, alone and beside other packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.installation.environments import PIPS, Environment, build_wheel
from tests.installation.resolve import (
    REQUESTS,
    WITH_BOTO3,
    named_first,
    resolve,
    reversed_order,
)

NEWEST = (*REQUESTS, *WITH_BOTO3, *map(reversed_order, WITH_BOTO3))
LIMIT = 180
"""Seconds of CPU time: a minute, which other programs make up to three times as long."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the working tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def require(environment: Environment, wheel: Path, requests: Sequence[str]) -> None:
    """Require a solution for each of the requests, within a minute on a machine of its own."""
    answers = {request: resolve(environment, wheel, request, LIMIT) for request in requests}
    wrong = {request: answer for request, answer in answers.items() if answer.found != "ok"}
    assert not wrong


def test_the_newest_pip_resolves_every_extra(wheel: Path, tmp_path: Path) -> None:
    """All of them together."""
    require(Environment(tmp_path), wheel, ["fsspill[s3,gcs,azure,sftp,compression,cli]"])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "requests",
    [WITH_BOTO3, pytest.param(NEWEST, marks=pytest.mark.nightly)],
    ids=["with boto3", "all"],
)
def test_uv_resolves_every_request(requests: Sequence[str], wheel: Path, tmp_path: Path) -> None:
    """In either order."""
    require(Environment(tmp_path, "uv"), wheel, requests)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pip", PIPS)
def test_every_pip_resolves_every_request(pip: str, wheel: Path, tmp_path: Path) -> None:
    """Those with boto3 if aiobotocore is named before it, where the pip is older than 25.1."""
    requests = NEWEST if pip == "newest" else (*REQUESTS, *map(named_first, WITH_BOTO3))
    require(Environment(tmp_path, pip), wheel, requests)
