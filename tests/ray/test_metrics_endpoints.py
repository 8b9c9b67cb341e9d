"""The endpoints at which the nodes of a cluster export their metrics."""

from __future__ import annotations

import socket
import sys
import types
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from fsspill.errors import ConfigError, MissingPackageError
from fsspill.ray.metrics_endpoints import metrics_endpoints

Head = Callable[..., str]


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    """Yield a function that makes a head of so many nodes, and returns its address."""

    class GcsClient:
        nodes: object = None

        def __init__(self, address: str) -> None:
            assert address.startswith("127.0.0.1:")

        def get_all_node_info(self, timeout: float) -> dict[str, SimpleNamespace]:
            if isinstance(self.nodes, Exception):
                raise self.nodes
            fields = ("state", "node_manager_address", "metrics_export_port")
            return {
                str(node): SimpleNamespace(**dict(zip(fields, node, strict=True)))
                for node in self.nodes  # type: ignore[attr-defined]
            }

    module = types.ModuleType("ray._raylet")
    module.GcsClient = GcsClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray._raylet", module)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def make(nodes: object) -> str:
            GcsClient.nodes = nodes
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield make


def test_live_nodes_are_named(head: Head) -> None:
    """By host and port; not those that are dead, or export nothing."""
    address = head([(0, "10.0.0.1", 8080), (1, "10.0.0.2", 8080), (0, "::1", 1), (0, "h", -1)])
    assert metrics_endpoints(address) == ["10.0.0.1:8080", "[::1]:1"]


def test_a_head_that_refuses_is_named(head: Head) -> None:
    """Another version, or one that demands a token."""
    address = head(RuntimeError("no token"))
    with pytest.raises(ConfigError, match=f"cannot ask the head at {address} for its nodes: no to"):
        metrics_endpoints(address)


def test_without_ray_endpoints_can_be_named(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says so."""
    monkeypatch.setitem(sys.modules, "ray._raylet", None)
    with pytest.raises(MissingPackageError, match="or name the endpoints: --metrics URL"):
        metrics_endpoints(head([]))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "h", "", "127.0.0.1:x", "[::1]:99999"])
def test_ray_is_not_asked_where_nothing_listens(address: str) -> None:
    """Its client would end the process after a minute."""
    with pytest.raises(ConfigError, match=r"cannot reach a head of Ray at .* Expected its host"):
        metrics_endpoints(address)
