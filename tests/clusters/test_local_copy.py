"""Local copies on real Ray clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.at_rest import keys
from tests.recording import RequestRecorder
from tests.running import Program, kill_processes, poll, processes, ray_environment

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

STORE = 100_000_000
LOCAL = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
URI = "s3://bucket/prefix"


@pytest.fixture
def environment(s3_bucket: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a node that has local copies."""
    copies = tmp_path / "copies"
    copies.mkdir()
    extra = {"FSSPILL_CACHE_DIR": str(copies), "FSSPILL_CACHE_MAX_BYTES": str(2**30)}
    with ray_environment(extra) as environment:
        yield environment


@pytest.fixture
def copies(environment: dict[str, str]) -> Path:
    return Path(environment["FSSPILL_CACHE_DIR"])


def arguments(**more: Any) -> str:
    return json.dumps({**LOCAL, "object_spilling_directory": URI, **more})


def test_restores_come_from_the_copies_and_from_the_bucket_without_them(
    environment: dict[str, str], copies: Path, recorder: RequestRecorder
) -> None:
    """Almost no request reads an object as long as the directory is there; then each does."""
    with Program("copies.py", arguments(), environment=environment) as program:
        program.expect("spilled")
        recorder.requests()
        program.tell("read")
        program.expect("verified")
        # A busy disk may have been slower than the upload of a file.
        with_copies = recorder.methods()["GET"]
        made = len(list(copies.rglob("*-multi-*")))
        shutil.rmtree(copies)
        program.tell("read")
        program.expect("verified")
        without = recorder.methods()["GET"]
        program.tell("end")
        program.output()
    assert made
    assert without > 3 * with_copies
    poll(lambda: not keys(), "the bucket to be empty")


def test_nothing_is_left_after_the_end_of_the_driver(
    environment: dict[str, str], copies: Path
) -> None:
    """Neither copies nor directories, once Ray's processes have ended and another start looked."""
    with Program("copies.py", arguments(), environment=environment) as program:
        program.expect("spilled")
        program.tell("read")
        program.expect("verified")
        assert list(copies.rglob("*-multi-*"))
        program.tell("end")
        program.output()
    assert not list(copies.rglob("*-multi-*"))


def test_a_new_start_removes_what_killed_sessions_left(
    environment: dict[str, str], copies: Path
) -> None:
    """SIGKILL of every process, then one start of a head that spills nothing."""
    with Program("copies.py", arguments(), environment=environment) as program:
        program.expect("spilled")
        assert list(copies.rglob("*-multi-*"))
        program.send_signal(signal.SIGKILL)
        directory = environment["RAY_TMPDIR"]
        poll(lambda: not (kill_processes(directory) or processes(directory)), "the end of Ray")
    assert list(copies.rglob("*-multi-*"))
    code = f"import json, ray; ray.init(**json.loads({arguments()!r})); ray.shutdown()"
    with Program("-c", code, environment=environment) as program:
        program.output()
    assert os.listdir(copies) == []


def test_a_head_whose_copies_cannot_work_does_not_start(
    environment: dict[str, str], copies: Path
) -> None:
    """The message says which directory, and what to do."""
    copies.rmdir()
    with Program("copies.py", arguments(), environment=environment) as program:
        program.expect(f"cannot use cache_dir='{copies}': there is no such directory")
        assert program.status()


def test_a_worker_node_whose_copies_cannot_work_says_so_and_spills(
    environment: dict[str, str], copies: Path
) -> None:
    """One line; it needs none."""
    node = {"FSSPILL_CACHE_DIR": "relative"}
    call = ("refused_node.py", URI, json.dumps(node))
    with Program(*call, environment=environment) as program:
        program.expect("cannot keep local copies: cannot use FSSPILL_CACHE_DIR='relative'")
        program.expect("right: 24 of 24")
        program.output()


def test_two_nodes_share_a_directory(environment: dict[str, str], copies: Path) -> None:
    """Each has copies of its own; the objects of one that is killed are read from the bucket."""
    with Program("two_nodes.py", URI, "--kill", environment=environment) as program:
        assert int(program.expect("spilled").split()[1]) > 30
        program.expect("read on the other node")
        program.expect("read after the node was killed")
        program.output()


def test_a_worker_node_that_differs_from_the_head_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """In a parameter that all nodes have in common; the message has both values."""
    code = f"""
import os, subprocess, sys, ray
ray.init(num_cpus=1, object_spilling_directory={URI!r}, include_dashboard=False)
address = ray.get_runtime_context().gcs_address
command = [{os.path.join(os.path.dirname(sys.executable), "ray")!r}, "start", "--num-cpus=1"]
started = subprocess.run(
    [*command, "--address=" + address], env={{**os.environ, "FSSPILL_PREFIX": "other"}},
    capture_output=True, text=True)
print("status", started.returncode, started.stdout, started.stderr, flush=True)
ray.shutdown()
"""
    with Program("-c", code, environment=environment) as program:
        printed = " ".join(program.output().split())
    assert "status 1" in printed
    assert "FSSPILL_PREFIX='other': the head of the cluster has prefix=''" in printed
