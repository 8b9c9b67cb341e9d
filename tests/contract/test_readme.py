"""The programs, commands and tables of the README are correct."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests.at_rest import keys
from tests.running import Program, poll, processes, ray_environment

README = (Path(__file__).parents[2] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def environment(s3_server: S3Server, s3_bucket: str) -> Iterator[dict[str, str]]:
    """Return the environment of a user whose buckets exist."""
    for bucket in ("my-bucket", "second-bucket"):
        s3_server.create_bucket(bucket)
    with ray_environment() as environment:
        yield environment


@pytest.mark.ray
@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_programs_run(number: int, environment: dict[str, str], s3_server: S3Server) -> None:
    """Each program runs, uses the buckets that it names, and leaves them empty."""
    if "import ray" in PYTHON[number]:
        pytest.importorskip("ray")
    seen = len(s3_server.requests())
    with Program("-c", PYTHON[number], environment=environment) as program:
        program.output()
    named = set(re.findall(r"s3://(\S+?)/", PYTHON[number]))
    asked = {request.path.split("/")[1] for request in s3_server.requests()[seen:]}
    assert named <= asked
    poll(lambda: not keys("my-bucket") and not keys("second-bucket"), "the buckets to be empty")


@pytest.mark.ray
def test_ray_start_command_runs(environment: dict[str, str]) -> None:
    """The command starts a head that has checked the bucket."""
    pytest.importorskip("ray")
    [command] = [block.strip() for block in CONSOLE if block.startswith("ray start")]
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    flags = ["--block", "--port=0", "--include-dashboard=false", "--disable-usage-stats"]
    arguments = [ray, *shlex.split(command)[1:], *flags]
    with Program(*arguments, environment=environment) as head:
        head.expect("Ray runtime started")
        assert processes(environment["RAY_TMPDIR"])
        config = '{"type": "fsspec", "params": {"uri": "s3://my-bucket/spill"}}'
        poll(lambda: config_of_raylet(environment["RAY_TMPDIR"]) == config, "the raylet")


def config_of_raylet(directory: str) -> str | None:
    """Return the spilling configuration in the raylet's session, as Ray itself recorded it."""
    import base64
    import json

    for pid in processes(directory):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        for word in words:
            if word.startswith("--config_list="):
                config = json.loads(base64.b64decode(word.partition("=")[2]))
                found: str = config["object_spilling_config"]
                return found
    return None


@pytest.mark.parametrize(
    "command",
    [
        line
        for block in CONSOLE
        for line in block.splitlines()
        if "fsspill ls" in line or "fsspill clean" in line
    ],
)
def test_clean_up_commands_run(
    command: str, environment: dict[str, str], s3_server: S3Server
) -> None:
    """The commands list the bucket that they name, and leave it unchanged."""
    fsspill, *arguments = shlex.split(command)
    script = os.path.join(os.path.dirname(sys.executable), fsspill)
    seen = len(s3_server.requests())
    with Program(script, *arguments, environment=environment) as program:
        program.output()
    asked = {
        request.path.split("/")[1].partition("?")[0] for request in s3_server.requests()[seen:]
    }
    assert asked == {"my-bucket"}
    assert keys("my-bucket") == []


def test_commands_to_try_and_to_test_are_shown() -> None:
    """A reader with only Python and pip finds the command to try first."""
    commands = [line for block in CONSOLE for line in block.splitlines()]
    assert commands[0] == "pip install '.[all]' && fsspill demo"
    assert "pip install '.[test]' && pytest" in commands
