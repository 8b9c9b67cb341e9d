"""What the hook wraps, where fsspill cannot be imported."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from _fsspill_wrappers import FailedStorage
from ray._private import external_storage as rays
from ray._private.node import Node

URI = "s3://bucket/x"
CONFIG = {"type": "fsspec", "params": {"uri": URI}}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the Ray side of fsspill from being imported."""
    for name in ("head", "setup", "worker_node"):
        monkeypatch.setitem(sys.modules, f"fsspill.ray.{name}", None)


@pytest.mark.usefixtures("broken")
def test_a_process_gets_storage_that_fails() -> None:
    """Setup does not raise, which would end an IO worker; the error names what to do."""
    storage = rays.setup_external_storage(CONFIG, "node", "session")
    assert type(storage) is FailedStorage
    assert rays.spill_objects([b"x"], [b""]) == []
    with pytest.raises(ImportError, match=r"expected to import fsspill.*pip install"):
        rays.restore_spilled_objects([b"x"], [b"u"])
    rays.delete_spilled_objects([b"u"])
    storage.destroy_external_storage()
    rays.reset_external_storage()


@pytest.mark.usefixtures("broken")
def test_a_head_does_not_start() -> None:
    """The error is raised where Ray starts, not in the first spill."""
    node = SimpleNamespace(_object_spilling_config=json.dumps(CONFIG))
    with pytest.raises(ImportError, match="expected to import fsspill"):
        Node.validate_external_storage(node)


def test_an_io_worker_of_a_head_without_fsspill(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the URI as a directory, and makes none: its storage fails, and says why."""
    config = {"type": "filesystem", "params": {"directory_path": URI}}
    monkeypatch.setattr(sys, "argv", ["/x/ray/_private/workers/default_worker.py"])
    storage = rays.setup_external_storage(config, "node", "session")
    assert type(storage) is FailedStorage
    with pytest.raises(RuntimeError, match="Install fsspill on the head too"):
        storage.restore_spilled_objects([b"x"], [b"u"])
    rays.reset_external_storage()


def test_a_head_that_takes_a_uri_for_a_directory_is_refused() -> None:
    """Whatever let the URI through: there is no directory called s3:."""
    config = {"type": "filesystem", "params": {"directory_path": ["/tmp", URI]}}
    with pytest.raises(RuntimeError, match="expected a Ray that fsspill supports"):
        rays.setup_external_storage(config, "node", "session")


@pytest.mark.parametrize("config", [None, 5, "{", "://", '["://"]', '{"params": "://"}'])
def test_configurations_that_are_none_go_to_ray(config: Any) -> None:
    """What is no configuration of a directory is Ray's to report."""
    original = Node._get_object_spilling_config.__wrapped__
    node = SimpleNamespace(_ray_params=SimpleNamespace(object_spilling_directory=None), _config={})
    node._config["object_spilling_config"] = config or "{}"
    assert Node._get_object_spilling_config(node) == original(node)
