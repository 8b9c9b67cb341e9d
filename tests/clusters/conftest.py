"""Fixtures of tests with real clusters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import ray_environment


@pytest.fixture
def environment(s3_bucket: str) -> Iterator[dict[str, str]]:
    """Return the environment of a program: endpoint and keys, and a directory for Ray."""
    with ray_environment() as environment:
        yield environment
