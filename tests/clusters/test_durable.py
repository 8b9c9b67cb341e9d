"""Objects that survive their node, on real clusters of three nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.at_rest import keys
from tests.running import Program, poll, ray_environment

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")


@pytest.fixture
def environment(s3_bucket: str) -> Iterator[dict[str, str]]:
    """Return the environment of a program: endpoint and keys, and a directory for Ray."""
    with ray_environment() as environment:
        yield environment


@pytest.mark.parametrize("durable", ["true", "false"])
def test_objects_survive_their_node_if_they_are_durable(
    environment: dict[str, str], durable: str
) -> None:
    """Though there is memory for all of them. Without `durable` none does."""
    with Program("survivors.py", "s3://bucket/x", durable, "1", environment=environment) as program:
        expected = "stored 20 lost 0" if durable == "true" else "stored 0 lost 20"
        assert expected in program.expect("killed:")
        said = program.output()
    assert ("durable: each object" in said) == (durable == "true")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_what_is_stored_survives_a_kill_at_any_moment(environment: dict[str, str]) -> None:
    """Twenty nodes are killed one after another while they make and store objects."""
    arguments = ("s3://bucket/x", "true", "20", "4")
    with Program("survivors.py", *arguments, environment=environment) as program:
        found = [program.expect("killed:").split() for _ in range(20)]
        program.output()
    assert sum(int(words[2]) for words in found) > 0, "killed too early each time"
    poll(lambda: not keys(), "all files to be deleted")
