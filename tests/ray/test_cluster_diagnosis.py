"""The checks on every node of a cluster, without one; tests/clusters has real ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import fsspill
from fsspill.errors import ConfigError, MissingPackageError
from fsspill.ray import cluster_diagnosis
from fsspill.ray.cluster_diagnosis import (
    ClusterDiagnosis,
    Difference,
    NodeDiagnosis,
    diagnose_cluster,
)

IDS = ["a" * 56, "b" * 56]
NAMES = ["10.0.0.1 (aaaaaaaaaaaa)", "10.0.0.2 (bbbbbbbbbbbb)"]


class Cluster:
    """What is used of Ray. The tasks of a node run as its id says, or never."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config
        self.outcomes: dict[str, Callable[..., Any] | Exception | None] = {}
        self.started: list[tuple[Any, ...]] = []
        self.cancelled: list[Any] = []
        self.connected = False
        state = SimpleNamespace(get_system_config=self._system_config)
        self._private = SimpleNamespace(state=SimpleNamespace(state=state))

    def _system_config(self) -> dict[str, str]:
        return {"object_spilling_config": json.dumps(self.config)} if self.config else {}

    def init(self, **_: Any) -> None:
        self.connected = True

    def shutdown(self) -> None:
        self.connected = False

    def nodes(self) -> list[dict[str, Any]]:
        living = [
            {"NodeID": node_id, "Alive": True, "NodeManagerAddress": f"10.0.0.{number}"}
            for number, node_id in enumerate(IDS, 1)
        ]
        return [*living, {"NodeID": "c" * 56, "Alive": False, "NodeManagerAddress": "10.0.0.3"}]

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        assert (options["num_cpus"], options["max_retries"]) == (0, 0)
        strategy = options["scheduling_strategy"]
        assert strategy.soft is False

        def start(function: Callable[..., Any], *arguments: Any) -> str:
            self.started.append(arguments)
            self.outcomes.setdefault(strategy.node_id, lambda: function(*arguments))
            return str(strategy.node_id)

        return lambda function: SimpleNamespace(remote=lambda *each: start(function, *each))

    def wait(
        self, refs: Sequence[str], *, timeout: float, num_returns: int = 1
    ) -> tuple[list[str], list[str]]:
        done = [ref for ref in refs if self.outcomes[ref]][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: str) -> Any:
        outcome = self.outcomes[ref]
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None
        return outcome()

    def cancel(self, ref: str) -> None:
        self.cancelled.append(ref)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster of two nodes in the place of Ray."""
    cluster = Cluster()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node_id, soft: SimpleNamespace(  # type: ignore[attr-defined]
        node_id=node_id, soft=soft
    )
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return cluster


def test_every_node_that_is_alive_is_checked(cluster: Cluster, memory_uri: str) -> None:
    """With one row each; those that have ended are left out."""
    found = diagnose_cluster("auto", [memory_uri], speed=False)
    assert found.can_spill
    assert [node.node for node in found.nodes] == NAMES
    assert found.uris == [memory_uri]
    assert found.nodes[0].versions["fsspill"] == fsspill.__version__
    assert json.loads(json.dumps(found.as_json()))["nodes"][1]["can_spill"] is True
    assert not cluster.connected


def test_what_ray_prints_is_not_in_the_result(
    cluster: Cluster, memory_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray prints what the cluster tells its drivers, at any time, to standard output."""

    def say() -> dict[str, Any]:
        print("(raylet) fsspill: node 10.0.0.1 cannot spill")  # noqa: T201
        return {}

    cluster.outcomes[IDS[0]] = say
    diagnose_cluster("auto", [memory_uri], speed=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "(raylet) fsspill" in captured.err


def test_without_a_uri_it_is_that_of_the_cluster(
    cluster: Cluster, memory_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its parameters; the environment of a node sets those of a node alone."""
    monkeypatch.setenv("FSSPILL_PREFIX", "own")
    cluster.config = {"type": "fsspec", "params": {"uri": memory_uri, "prefix": "p"}}
    [first, _] = diagnose_cluster("auto", speed=False).nodes
    assert first.found is not None
    sources = {each["name"]: (each["value"], each["source"]) for each in first.found["parameters"]}
    assert sources["prefix"] == ("p", "cluster")


@pytest.mark.parametrize("config", [None, {"type": "filesystem", "params": {}}])
def test_a_cluster_without_a_uri_is_explained(
    cluster: Cluster, config: dict[str, Any] | None
) -> None:
    """And disconnected from."""
    cluster.config = config
    with pytest.raises(ConfigError, match="does not spill to a URI"):
        diagnose_cluster("auto")
    assert not cluster.connected


@pytest.mark.parametrize(
    ("error", "found", "advice"),
    [
        (
            RuntimeError("a\nModuleNotFoundError: No module named 'fsspill'\nb"),
            "fsspill is missing there",
            f"Run pip install 'fsspill=={fsspill.__version__}'",
        ),
        (
            RuntimeError("a traceback\n\nOSError: the worker died.\n"),
            "the check failed: OSError: the worker died",
            "look into raylet.out",
        ),
    ],
)
def test_a_node_whose_task_fails_has_failed(
    cluster: Cluster, memory_uri: str, error: Exception, found: str, advice: str
) -> None:
    """The others have their rows."""
    cluster.outcomes[IDS[0]] = error
    diagnosis = diagnose_cluster("auto", [memory_uri], speed=False)
    assert [node.can_spill for node in diagnosis.nodes] == [False, True]
    [verdict] = diagnosis.nodes[0].verdicts
    assert verdict["outcome"] == "failed"
    assert verdict["found"].startswith(found)
    assert advice in verdict["advice"]


def test_a_node_that_does_not_answer_has_failed(
    cluster: Cluster, memory_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a time; its check is cancelled."""
    monkeypatch.setattr(cluster_diagnosis, "NODE_SECONDS", 0.1)
    cluster.outcomes[IDS[1]] = None
    diagnosis = diagnose_cluster("auto", [memory_uri], speed=False)
    assert [node.can_spill for node in diagnosis.nodes] == [True, False]
    assert diagnosis.nodes[1].problem.startswith("no answer within")
    assert cluster.cancelled == [IDS[1]]


def test_ctrl_c_cancels_all_checks(cluster: Cluster, memory_uri: str) -> None:
    """They remove what they have written."""
    cluster.outcomes = dict.fromkeys(IDS)

    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    cluster.outcomes[IDS[0]] = RuntimeError("x")
    progress = [lambda *_: None, interrupt]
    with pytest.raises(KeyboardInterrupt):
        diagnose_cluster("auto", [memory_uri], progress=lambda *step: progress.pop(0)(*step))
    assert cluster.cancelled == [IDS[1]]
    assert not cluster.connected


@pytest.mark.parametrize(("most", "measured"), [(2, True), (1, False)])
def test_the_speed_of_many_nodes_is_not_measured_unasked(
    cluster: Cluster, memory_uri: str, monkeypatch: pytest.MonkeyPatch, most: int, measured: bool
) -> None:
    """All measure at once, and each moves 65 MiB."""
    monkeypatch.setattr(cluster_diagnosis, "_MOST_MEASURED", most)
    cluster.outcomes = {node_id: RuntimeError("x") for node_id in IDS}
    diagnose_cluster("auto", [memory_uri])
    diagnose_cluster("auto", [memory_uri], speed=True)
    assert [arguments[-1] for arguments in cluster.started] == [measured] * 2 + [True] * 2


def test_a_cluster_that_cannot_be_reached_is_explained(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Ray's reason."""

    def refuse(**_: Any) -> None:
        raise ConnectionError("no running Ray instance")

    monkeypatch.setattr(cluster, "init", refuse)
    with pytest.raises(ConfigError, match=r"cluster '1.2.3.4:5': no running Ray instance\. Expec"):
        diagnose_cluster("1.2.3.4:5")


def test_ray_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its absence is no traceback."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"fsspill\[ray\]"):
        diagnose_cluster("auto")


def node(name: str, versions: dict[str, str], **parameters: Any) -> NodeDiagnosis:
    listed = [{"name": each, "value": parameters[each], "source": "x"} for each in parameters]
    return NodeDiagnosis(name, {"can_spill": True, "versions": versions, "parameters": listed})


def test_differences_name_the_nodes_of_each_value() -> None:
    """Of versions and of parameters; nodes that did not answer have none."""
    nodes = [
        node("a", {"ray": "1", "s3fs": "1"}, file_size=3, digest="d"),
        node("b", {"ray": "1", "s3fs": "2"}, file_size=3, digest="e"),
        node("c", {"ray": "1"}, file_size=3, digest="d"),
        NodeDiagnosis("d", None, "no answer"),
    ]
    assert ClusterDiagnosis(["u"], nodes).differences == [
        Difference("s3fs", {"1": ["a"], "2": ["b"], "not installed": ["c"]}),
        Difference("digest", {"d": ["a", "c"], "e": ["b"]}),
    ]
