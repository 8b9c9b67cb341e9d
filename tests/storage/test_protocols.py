"""The table of protocols."""

from __future__ import annotations

import importlib.metadata

import fsspec
import pytest
from fsspec.registry import known_implementations, registry

from fsspill.storage.protocols import (
    OBSTORE_PROTOCOLS,
    PROTOCOLS,
    ProtocolTraits,
    protocol_of,
    traits_of,
)

NEW = ("tos", "tosfs")
"""Protocols that the oldest fsspec in use does not have."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_row_is_a_protocol_of_fsspec(protocol: str) -> None:
    """A row for a misspelt protocol would have no effect."""
    if protocol in NEW and protocol not in known_implementations:
        pytest.skip(f"fsspec {fsspec.__version__} does not know it yet")
    assert protocol in {*known_implementations, *registry}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_extra_exists(protocol: str) -> None:
    """The message about a missing package names an extra that pip knows."""
    extra = PROTOCOLS[protocol].extra
    extras = importlib.metadata.metadata("fsspill").get_all("Provides-Extra") or []
    assert extra is None or extra in extras


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_object_stores_have_buckets(protocol: str) -> None:
    """Obstore and the client for S3 address a bucket; directories exist elsewhere."""
    traits = PROTOCOLS[protocol]
    if traits.obstore or traits.client == "s3":
        assert not traits.has_directories
    assert not (traits.is_local and traits.is_per_process)


@pytest.mark.parametrize("uri", ["hdfs://host/dir", "nonsense://x"])
def test_other_protocols_have_the_defaults(uri: str) -> None:
    """They need no row to work, and are known to have directories."""
    assert traits_of(uri) == ProtocolTraits()
    assert traits_of(uri).has_directories


def test_a_filesystem_that_retries_for_minutes_does_not() -> None:
    """The thread of a call that its caller no longer waits for would keep the process at its exit.

    tosfs makes 20 attempts with pauses between them.
    """
    assert traits_of("tos://bucket").options["max_retry_num"] == 1
    assert traits_of("tosfs://bucket") is traits_of("tos://bucket")


def test_aliases_have_the_traits_of_their_protocol() -> None:
    """It makes no difference which name of a protocol a URI has."""
    for names in (["s3", "s3a"], ["gs", "gcs"], ["abfs", "abfss", "az"], ["file", "local"]):
        assert all(traits_of(f"{name}://x") is traits_of(f"{names[0]}://x") for name in names)
        assert {name in OBSTORE_PROTOCOLS for name in names} == {names[0] in OBSTORE_PROTOCOLS}


@pytest.mark.parametrize(
    ("uri", "protocol"), [("s3://b/k", "s3"), ("s3://b/file://k", "s3"), ("memory://", "memory")]
)
def test_the_protocol_is_the_part_before_the_first_separator(uri: str, protocol: str) -> None:
    """A path may contain the separator."""
    assert protocol_of(uri) == protocol
