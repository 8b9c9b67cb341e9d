"""The watch over the nodes of a cluster, on a table of nodes in the place of Ray's."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import fsspill
from fsspill.child_process import start_in_child
from fsspill.ray.announcement import announce, key_of
from fsspill.ray.node_watch import NodeWatch, requirement_of, watch_until_exit
from tests.running import PATIENCE

ALIVE, DEAD = 0, 1


class Cluster:
    """Nodes, jobs and announcements, in the form in which Ray's client gives them."""

    def __init__(self) -> None:
        self.nodes: dict[str, int] = {}
        self.jobs = {"job": False}
        self.announced: dict[bytes, bytes] = {}
        self.requests: list[str] = []
        self.lines: list[tuple[str, str]] = []
        self.watch = NodeWatch(self, "fsspill==1", lambda *line: self.lines.append(line))

    def join(self, name: str, version: str | None = fsspill.__version__) -> None:
        self.nodes[name.encode().hex()] = ALIVE
        if version:
            node = SimpleNamespace(
                node_id=name.encode().hex(),
                get_gcs_client=lambda: self,
                _ray_params=SimpleNamespace(env_vars=None),
            )
            announce(node)
            self.announced[key_of(node.node_id)] = version.encode()

    def look(self) -> list[tuple[str, str]]:
        """Return the lines that a look prints, and the job of each."""
        self.lines.clear()
        self.watch.look()
        return list(self.lines)

    def get_all_node_info(self, timeout: float) -> dict[str, Any]:
        self.requests.append("nodes")
        return {
            name: SimpleNamespace(
                node_id=bytes.fromhex(name), state=state, node_manager_address=f"ip-{name}"
            )
            for name, state in self.nodes.items()
        }

    def get_all_job_info(self, **options: Any) -> dict[str, Any]:
        self.requests.append("jobs")
        return {job: SimpleNamespace(is_dead=is_dead) for job, is_dead in self.jobs.items()}

    def internal_kv_get(self, key: bytes, namespace: bytes, timeout: float) -> bytes | None:
        self.requests.append("get")
        return self.announced.get(key)

    def internal_kv_put(self, key: bytes, value: bytes, *rest: object, timeout: float) -> None:
        self.announced[key] = value

    def internal_kv_del(self, key: bytes, *rest: object, timeout: float) -> None:
        del self.announced[key]


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.join("head")
    return cluster


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "fsspill is not installed there, or off"),
        ("0.0.1", "has fsspill 0.0.1, and the head"),
    ],
)
def test_each_driver_is_told_once_of_each_node(
    cluster: Cluster, version: str | None, message: str
) -> None:
    """When a node was seen thrice: it may have joined a moment ago. A later driver is told too."""
    cluster.join("bad", version)
    assert cluster.look() == []
    assert cluster.look() == []
    [(job, line)] = cluster.look()
    assert job == "job"
    assert message in line
    assert "ip-626164" in line
    assert "pip install 'fsspill==1'" in line
    assert "\n" not in line
    cluster.jobs |= {"later": False, "ended": True}
    assert cluster.look() == []  # it may not listen yet
    assert [job for job, _ in cluster.look()] == ["later"]
    cluster.join("worse", version)
    cluster.look()
    cluster.look()
    assert sorted(job for job, _ in cluster.look()) == ["job", "later"]


def test_nodes_that_lack_the_same_are_one_line(cluster: Cluster) -> None:
    """A cluster of which every node lacks the package is one incident, not a line for each node."""
    for number in range(1000):
        cluster.join(f"bad{number:03}", None)
    for number in range(2):
        cluster.join(f"old{number}", "0.0.1")
    cluster.look()
    cluster.look()
    (_, first), (_, second) = sorted(cluster.look(), key=lambda line: len(line[1]), reverse=True)
    assert first.startswith("fsspill: 1000 nodes (ip-626164303030, ip-")
    assert " and 995 more) cannot spill" in first
    assert len(first) < 500
    assert second.startswith("fsspill: 2 nodes (ip-6f6c6430, ip-6f6c6431) have fsspill 0.0.1")
    assert cluster.look() == []


def test_what_was_told_is_forgotten_with_the_driver(cluster: Cluster) -> None:
    """A cluster that runs for months has many drivers."""
    cluster.join("bad", None)
    for number in range(10):
        cluster.jobs = {f"job{number}": False}
        cluster.look()
        cluster.look()
        cluster.look()
    assert len(cluster.watch._told) == 1


def test_a_node_that_announces_itself_late_is_sound(cluster: Cluster) -> None:
    """Nothing is said of it."""
    cluster.join("slow", None)
    cluster.look()
    cluster.look()
    cluster.join("slow")
    assert cluster.look() == []
    assert cluster.look() == []


def test_a_node_that_announces_itself_too_late_is_corrected(cluster: Cluster) -> None:
    """Once, on the drivers that were told that it lacks something."""
    cluster.join("slow", None)
    for _ in range(3):
        cluster.look()
    cluster.jobs |= {"later": False}
    cluster.join("slow")
    [(job, line)] = cluster.look()
    assert job == "job"
    assert "node ip-736c6f77 has announced fsspill since: it can spill" in line
    assert cluster.look() == []


def test_a_sound_cluster_costs_one_request_a_look(cluster: Cluster) -> None:
    """However many nodes it has; and each announcement is read once."""
    for number in range(5):
        cluster.join(f"node{number}")
    cluster.look()
    cluster.requests.clear()
    cluster.look()
    assert cluster.requests == ["nodes"]


def test_announcements_of_nodes_that_have_ended_are_removed(cluster: Cluster) -> None:
    """Ray's table does not grow with the nodes of an autoscaled cluster."""
    cluster.join("gone")
    cluster.look()
    cluster.nodes[b"gone".hex()] = DEAD
    cluster.look()
    assert list(cluster.announced) == [key_of(b"head".hex())]


def test_a_look_that_fails_is_logged(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The next one goes on: Ray's head may be starting again."""
    cluster.join("bad", None)
    cluster.look()
    cluster.look()
    cluster.nodes, nodes = None, cluster.nodes  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        assert cluster.look() == []
    assert "could not compare the nodes" in caplog.text
    cluster.nodes = nodes
    assert len(cluster.look()) == 1


def test_the_command_names_the_extras_of_the_uris() -> None:
    """And the version of the head."""
    assert requirement_of(["s3://b/x"]) == f"fsspill[s3]=={fsspill.__version__}"
    assert requirement_of(["file:///x"]) == f"fsspill=={fsspill.__version__}"


def test_it_ends_with_rays_head_process_whatever_is_not_answered() -> None:
    """A request to a head that is gone would go on for longer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", "input()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as head:
            watch = start_in_child(partial(watch_until_exit, "fsspill==1", address, head.pid))
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()  # it asks
            assert watch.poll() is None
        with connection:
            assert watch.wait(timeout=PATIENCE) == 0
