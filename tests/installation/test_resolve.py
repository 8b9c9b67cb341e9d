"""The metadata of fsspill has a solution, alone and beside other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installation.environments import PIPS, Environment, build_wheel
from tests.installation.resolve import REQUESTS, resolve
from tests.running import PATIENCE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the working tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_newest_pip_resolves_every_extra(wheel: Path, tmp_path: Path) -> None:
    """All of them together."""
    extras = "fsspill[s3,gcs,azure,sftp,compression,cli]"
    assert resolve(Environment(tmp_path), wheel, extras, PATIENCE) == "ok"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pip", PIPS)
def test_every_pip_resolves_every_request(pip: str, wheel: Path, tmp_path: Path) -> None:
    """Those with boto3 if aiobotocore is named before it, where the pip is older than 25.1."""
    environment = Environment(tmp_path, pip)
    requests = [
        request
        for request in REQUESTS
        if pip == "newest" or "aiobotocore" in request or "boto3" not in request
    ]
    answers = {request: resolve(environment, wheel, request, 3 * PATIENCE) for request in requests}
    assert set(answers.values()) == {"ok"}, answers
