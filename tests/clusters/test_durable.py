"""Objects that survive their node, on real clusters of three nodes."""

from __future__ import annotations

import json

import pytest

from tests.at_rest import keys, spilled
from tests.faults.fault_proxy import FaultProxy
from tests.running import Program, poll, ray_environment
from tests.timeouts import FORGIVING

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")


@pytest.mark.parametrize("durable", ["true", pytest.param("false", marks=pytest.mark.nightly)])
def test_objects_survive_their_node_if_they_are_durable(
    environment: dict[str, str], durable: str
) -> None:
    """Though there is memory for all of them. Without `durable` none does."""
    with Program("survivors.py", "s3://bucket/x", durable, "1", environment=environment) as program:
        expected = "stored 20 lost 0" if durable == "true" else "stored 0 lost 20"
        assert expected in program.expect("killed:")
        said = program.output()
    assert ("durable: each object" in said) == (durable == "true")


@pytest.mark.parametrize("durable", ["true", pytest.param("false", marks=pytest.mark.nightly)])
def test_objects_survive_a_drained_node_if_they_are_durable(
    environment: dict[str, str], durable: str
) -> None:
    """An autoscaler drains a node and removes it. Without `durable` its objects go with it."""
    arguments = ("s3://bucket/x", durable, "1", "drain")
    with Program("survivors.py", *arguments, environment=environment) as program:
        program.expect("drained a node")
        expected = "stored 20 lost 0" if durable == "true" else "stored 0 lost 20"
        assert expected in program.expect("killed:")
        program.output()
    poll(lambda: not keys(), "all files to be deleted")


def test_an_outage_delays_no_durable_object(s3_bucket: str, proxy: FaultProxy) -> None:
    """Objects are made in memory meanwhile, and stored when the storage answers again."""
    params = {"uri": "s3://bucket/x", "durable": True, "stall_timeout": FORGIVING}
    config = {"type": "fsspec", "params": params}
    arguments = {
        "num_cpus": 1,
        "object_store_memory": 100_000_000,
        "include_dashboard": False,
        "_system_config": {"object_spilling_config": json.dumps(config)},
    }
    with (
        ray_environment() as environment,
        Program("objects.py", json.dumps(arguments), environment=environment) as program,
    ):
        program.expect("started")
        proxy.pause()
        program.tell("put 20 1000000")
        program.expect("the slowest")
        program.expect("Until that is mended, objects stay in memory")
        proxy.resume()
        # Ray looks for objects to spill when one is created.
        poll(lambda: _put(program) and len(spilled()) >= 20, "objects to be stored")
        program.tell("verify")
        right, of = program.expect("right:").split()[1::2]
        assert right == of
        program.output()
    assert keys() == []


def _put(program: Program) -> str:
    program.tell("put 1 1000000")
    return program.expect("the slowest")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_what_is_stored_survives_a_kill_at_any_moment(environment: dict[str, str]) -> None:
    """Twenty nodes are killed one after another while they make and store objects."""
    arguments = ("s3://bucket/x", "true", "20", "early")
    with Program("survivors.py", *arguments, environment=environment) as program:
        found = [program.expect("killed:").split() for _ in range(20)]
        program.output()
    assert sum(int(words[2]) for words in found) > 0, "killed too early each time"
    poll(lambda: not keys(), "all files to be deleted")
