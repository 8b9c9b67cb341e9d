"""The checks of `fsspill.diagnosis` on every node of a Ray cluster."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from typing import Any

from fsspill.diagnosis.parameters import Scope
from fsspill.diagnosis.run import diagnose
from fsspill.errors import ConfigError, FsspillError, MissingPackageError, format_seconds
from fsspill.progress import Progress, ignore_progress
from fsspill.ray.node_watch import requirement_of
from fsspill.secrets import redact

__all__ = ["ClusterDiagnosis", "Difference", "NodeDiagnosis", "diagnose_cluster"]

NODE_SECONDS = 120.0
"""Seconds that the checks of all nodes may take: they run concurrently."""

_END_SECONDS = 15.0
"""Seconds in which a check that was cancelled removes what it has written."""

_MOST_MEASURED = 20
"""Nodes up to which their speed is measured unless that is asked for: each moves 65 MiB."""

_LONGEST_ID = 12
"""Digits of a node's id, as Ray's own tables show it."""

_LONGEST_TEXT = 300
"""Characters of an error of Ray, which has the traceback of the node in it."""

_ABSENT = "not installed"


@dataclass(frozen=True)
class NodeDiagnosis:
    """The verdicts on one node.

    Attributes
    ----------
    node : str
        Its address, and the beginning of its id.
    found : mapping or None
        `fsspill.diagnosis.run.Diagnosis` as JSON; None if the node gave none.
    problem, advice : str
        The reason for that, and what to do.
    """

    node: str
    found: Mapping[str, Any] | None = None
    problem: str = ""
    advice: str = ""

    @property
    def can_spill(self) -> bool:
        """True if nothing keeps the node from spilling."""
        return self.found is not None and bool(self.found["can_spill"])

    @property
    def versions(self) -> Mapping[str, str]:
        """Installed packages; empty if the node gave none."""
        return self.found["versions"] if self.found else {}

    @property
    def verdicts(self) -> list[Mapping[str, str]]:
        """All verdicts; that it gave none is one too."""
        if self.found is not None:
            return list(self.found["verdicts"])
        texts = {"found": self.problem, "advice": self.advice}
        return [{"uri": "", "name": "node", "outcome": "failed", **texts}]


@dataclass(frozen=True)
class Difference:
    """A version or parameter that is not the same on all nodes.

    Attributes
    ----------
    name : str
        The package, or the parameter.
    nodes : dict
        The nodes that have each value.
    """

    name: str
    nodes: Mapping[str, Sequence[str]]


@dataclass
class ClusterDiagnosis:
    """The verdicts on all nodes that are alive.

    Attributes
    ----------
    uris : list of str
        The URIs that were checked.
    nodes : list of NodeDiagnosis
        One for each node.
    """

    uris: list[str]
    nodes: list[NodeDiagnosis] = field(default_factory=list)

    @property
    def can_spill(self) -> bool:
        """True if every node can."""
        return all(each.can_spill for each in self.nodes)

    @property
    def differences(self) -> list[Difference]:
        """Versions and parameters that are not the same on all nodes."""
        answered = [each for each in self.nodes if each.found]
        versions = {each.node: each.versions for each in answered}
        parameters = {each.node: _parameters(each) for each in answered}
        return [*_differences(versions), *_differences(parameters)]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "can_spill": self.can_spill,
            "uris": self.uris,
            "nodes": [{"can_spill": each.can_spill, **asdict(each)} for each in self.nodes],
            "differences": [asdict(each) for each in self.differences],
        }


def _parameters(diagnosis: NodeDiagnosis) -> dict[str, str]:
    found = diagnosis.found["parameters"] if diagnosis.found else []
    return {each["name"]: str(each["value"]) for each in found}


def _differences(found: Mapping[str, Mapping[str, str]]) -> Iterator[Difference]:
    names = dict.fromkeys(name for values in found.values() for name in values)
    for name in names:
        nodes: dict[str, list[str]] = {}
        for node, values in found.items():
            nodes.setdefault(values.get(name, _ABSENT), []).append(node)
        if len(nodes) > 1:
            yield Difference(name, nodes)


def diagnose_cluster(
    address: str,
    uris: Sequence[str] = (),
    *,
    shared: bool = False,
    speed: bool | None = None,
    progress: Progress = ignore_progress,
) -> ClusterDiagnosis:
    """Check whether every node of a cluster can spill.

    Parameters
    ----------
    address : str
        The cluster: ``host:port`` of its head, or ``auto`` for the one that runs here.
    uris : sequence of str
        The URIs; those that the cluster spills to if there are none.
    shared : bool
        For the URIs: True for a ``file://`` directory that all nodes have mounted.
    speed : bool, optional
        True to measure the speed of each node; by default up to 20 nodes.
    progress : callable, optional
        Receives the number of nodes done; see `fsspill.progress`.

    Raises
    ------
    FsspillError
        The cluster cannot be reached, or spills to no URI and none is given.

    Notes
    -----
    A task on each node, which takes no CPU of Ray's count, all of them concurrently. A node that
    has not answered within two minutes has failed. Its task is cancelled, as all are by an
    exception such as KeyboardInterrupt, and removes what it has written.
    """
    with _connected(address) as ray:
        params: dict[str, Any] = {"uri": list(uris), **({"shared": True} if shared else {})}
        given: Mapping[str, Any] = {"type": "fsspec", "params": params}
        config = given if uris else _config_of_cluster(ray)
        source = "command line" if uris else "cluster"
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        if speed is None:
            speed = len(nodes) <= _MOST_MEASURED
        named: str | list[str] = config["params"]["uri"]
        found = ClusterDiagnosis([named] if isinstance(named, str) else list(named))
        arguments: tuple[Any, ...] = (dict(config), source, ["node"], speed)
        refs = {_start(ray, node_id, arguments): _name(nodes[node_id]) for node_id in nodes}
        found.nodes = _collect(ray, refs, found.uris, progress)
    return found


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster during a block.

    Ray prints what the cluster tells its drivers to standard output, which has the result.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            "cannot check a cluster: expected the package ray. Install it: "
            'pip install "fsspill[ray]"'
        ) from error
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except FsspillError:
            raise
        except Exception as error:
            raise ConfigError(
                f"cannot connect to the cluster {address!r}: {_last_line(error)}. Expected a Ray "
                "that runs: name host:port of its head, in the Python and with the version of its "
                "Ray."
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _config_of_cluster(ray: Any) -> Mapping[str, Any]:
    """Return the configuration that the head distributes."""
    state: Any = getattr(ray._private.state, "state", None)
    system_config = state.get_system_config() if hasattr(state, "get_system_config") else {}
    config: Mapping[str, Any] = json.loads(system_config.get("object_spilling_config") or "{}")
    if config.get("type") != "fsspec":
        raise ConfigError(
            "cannot check this cluster: it does not spill to a URI. Expected one: name it, or "
            "start its head with --object-spilling-directory."
        )
    return config


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:_LONGEST_ID]})"


def _start(ray: Any, node_id: str, arguments: Sequence[Any]) -> Any:
    """Start the checks on a node; return the reference of their result."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(diagnose_node)
    return task.remote(*arguments)


def diagnose_node(
    config: Mapping[str, Any], source: str, scopes: Collection[Scope], speed: bool
) -> dict[str, Any]:
    """Check the node of this process; parameters as of `diagnose`. Returns JSON."""
    return diagnose(config, source=source, scopes=scopes, speed=speed).as_json()


def _collect(
    ray: Any, refs: Mapping[Any, str], uris: Sequence[str], progress: Progress
) -> list[NodeDiagnosis]:
    """Return the results of all nodes, in their order; cancel what is left."""
    found: dict[str, NodeDiagnosis] = {}
    waiting = list(refs)
    end = time.monotonic() + NODE_SECONDS
    progress("checking nodes", 0, len(refs))
    try:
        while waiting and (seconds := end - time.monotonic()) > 0:
            done, waiting = ray.wait(waiting, timeout=seconds)
            for ref in done:
                found[refs[ref]] = _result(ray, ref, refs[ref], uris)
            progress("checking nodes", len(found), len(refs))
    finally:
        _cancel(ray, waiting)
    silent = f"no answer within {format_seconds(NODE_SECONDS)}"
    return [
        found.get(node) or NodeDiagnosis(node, None, silent, _ADVICE_SILENT)
        for node in refs.values()
    ]


_ADVICE_SILENT = (
    "Run 'fsspill check URI' on that node, and look into raylet.out and io_worker-*.err in its "
    "directory of Ray's logs."
)


def _cancel(ray: Any, refs: Sequence[Any]) -> None:
    """Cancel checks, and wait until they have removed what they wrote."""
    for ref in refs:
        ray.cancel(ref)
    if refs:
        ray.wait(list(refs), num_returns=len(refs), timeout=_END_SECONDS)


def _result(ray: Any, ref: Any, node: str, uris: Sequence[str]) -> NodeDiagnosis:
    try:
        return NodeDiagnosis(node, ray.get(ref))
    except Exception as error:
        return _failure(node, error, uris)


def _failure(node: str, error: Exception, uris: Sequence[str]) -> NodeDiagnosis:
    """Return the verdict on a node whose task failed: mostly it has no fsspill, or another."""
    if "No module named 'fsspill" in str(error):
        advice = (
            f"Run pip install '{requirement_of(uris)}' in the Python of its Ray, and start it "
            "again."
        )
        return NodeDiagnosis(node, None, "fsspill is missing there, or of another version", advice)
    return NodeDiagnosis(node, None, f"the check failed: {_last_line(error)}", _ADVICE_SILENT)


def _last_line(error: Exception) -> str:
    """Return the end of an error of Ray, where the reason is, or all of a short one."""
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:_LONGEST_TEXT].rstrip(".")
