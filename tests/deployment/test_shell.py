"""The configuration for shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fsspill.deployment.plan import Plan, make_plan
from fsspill.deployment.shell import ADDRESS, render_environment, render_start
from fsspill.settings import MIB
from tests.deployment.configured import settings_of_environment

PLANS: list[tuple[list[str], dict[str, Any]]] = [
    (["s3://bucket/spill"], {}),
    (["s3://bucket/spill"], {"object_size": MIB, "cache_dir": "/x y", "cache_max_bytes": 10**9}),
    (["s3://one", "gs://two/x"], {}),
    (["file:///mnt/it's here"], {"shared": True}),
    (["file:///mnt/x"], {}),
]

REPORT = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], "
    "{name: value for name, value in os.environ.items() if '_' in name}]))"
)


def run(text: str, command: str = "") -> list[tuple[list[str], dict[str, str]]]:
    """Run commands in a shell; return the arguments of each ``ray``, and its environment."""
    function = f'ray() {{ "{sys.executable}" -c "{REPORT}" "$@"; }}'
    shell = subprocess.run(
        ["bash", "-euc", f"{function}\n{text}\n{command}"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not shell.stderr
    found = []
    for line in shell.stdout.splitlines():
        arguments, variables = json.loads(line)
        ours = {n: v for n, v in variables.items() if n.startswith(("FSSPILL_", "RAY_"))}
        found.append((arguments, ours))
    return found


def planned(uris: list[str], options: dict[str, Any]) -> Plan:
    return make_plan(uris, **options)


@pytest.mark.parametrize(("uris", "options"), PLANS)
def test_the_environment_configures_what_is_planned(
    uris: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hook reads it on a head; settings of Ray are those of the plan."""
    plan = planned(uris, options)
    [(_, variables)] = run(render_environment(plan), "ray")
    assert settings_of_environment(variables, monkeypatch) == plan.settings
    expected = {f"RAY_{each.name}": str(each.value) for each in plan.ray_settings}
    assert {n: v for n, v in variables.items() if n.startswith("RAY_")} == expected


@pytest.mark.parametrize(("uris", "options"), PLANS)
def test_ray_start_configures_what_is_planned(
    uris: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own parser takes the options; other nodes have the same environment."""
    start = pytest.importorskip("ray.scripts.scripts").start
    plan = planned(uris, options)
    (head, variables), (node, others) = run(render_start(plan))
    parsed = start.make_context("start", head[1:]).params
    assert head[0] == node[0] == "start"
    assert parsed["head"]
    directory = parsed["object_spilling_directory"]
    assert settings_of_environment(variables, monkeypatch, directory) == plan.settings
    assert others == variables
    assert start.make_context("start", node[1:]).params["address"] == ADDRESS


def test_credentials_have_a_place() -> None:
    """Of each kind of storage that needs some."""
    for uri, place in (
        ("s3://b", "AWS_PROFILE"),
        ("gs://b", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("sftp://h/x", "FSSPEC_SFTP_PASSWORD"),
    ):
        assert place in render_start(planned([uri], {}))
        assert place in render_environment(planned([uri], {}))
    assert "redentials" not in render_start(planned(["file:///x"], {}))
