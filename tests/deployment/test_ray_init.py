"""The configuration for a program."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from fsspill.deployment.plan import make_plan
from fsspill.deployment.ray_init import render_init, system_config
from fsspill.settings import MIB
from fsspill.testing.s3_server import S3Server
from tests.deployment.configured import settings_of
from tests.running import Program, ray_environment

PLANS: list[tuple[list[str], dict[str, Any]]] = [
    (["s3://bucket/spill"], {}),
    (["s3://bucket/spill"], {"object_size": MIB, "cache_dir": "/x", "cache_max_bytes": 10**9}),
    (["s3://one", "gs://two/x"], {}),
    (["file:///mnt/x"], {"shared": True}),
    (["file:///mnt/x"], {}),
]


@pytest.mark.parametrize(("uris", "options"), PLANS)
def test_the_program_configures_what_is_planned(
    uris: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments of ray.init, on the way that Ray takes them, give the settings of the plan."""
    plan = make_plan(uris, **options)
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", given.update)
    exec(render_init(plan), {})
    assert given == {"_system_config": system_config(plan)}
    assert settings_of(given["_system_config"]) == plan.settings


@pytest.mark.ray
@pytest.mark.nightly
def test_ray_starts_with_it(s3_server: S3Server, s3_bucket: str) -> None:
    """A cluster takes every setting, and spills to the bucket."""
    program = f"""
{render_init(make_plan([f"s3://{s3_bucket}/spill"], object_size=MIB))}
import numpy
kept = [ray.put(numpy.full(10_000_000, number, numpy.uint8)) for number in range(20)]
assert [int(ray.get(ref)[0]) for ref in kept] == list(range(20))
"""
    # As on a node with a small object store.
    program = program.replace("ray.init(", "ray.init(object_store_memory=100 * 2**20, ", 1)
    with ray_environment(s3_server.environment) as environment:
        environment.pop("RAY_max_io_workers")
        with Program("-c", program, environment=environment) as running:
            running.output()
    assert any(request.method == "PUT" for request in s3_server.requests())
