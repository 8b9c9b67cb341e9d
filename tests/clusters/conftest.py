"""Fixtures of tests with real clusters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires

import pytest

from tests.running import ray_environment


@pytest.fixture(scope="session")
def metrics_agent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables with which Ray exports metrics.

    It does so with the packages of ``ray[default]``, which make the start of every cluster slower:
    they are installed for those that need them.
    """
    directory = str(tmp_path_factory.mktemp("ray-default"))
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", directory]
    lines = [line for line in requires("ray") or [] if 'extra == "default"' in line]
    subprocess.run([*install, *(line.partition(";")[0] for line in lines)], check=True)
    return {"PYTHONPATH": directory}


@pytest.fixture
def environment(s3_bucket: str) -> Iterator[dict[str, str]]:
    """Return the environment of a program: endpoint and keys, and a directory for Ray."""
    with ray_environment() as environment:
        yield environment
