"""What the hook wraps, where fsspill cannot be imported."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from _fsspill_config import has_parameters, setting_with_uri
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


def spilling_config(config: Any, directory: str | None = None) -> Any:
    """Return what a Node takes for its configuration."""
    params = SimpleNamespace(object_spilling_directory=directory)
    node = SimpleNamespace(_ray_params=params, _config={"object_spilling_config": config})
    return Node._get_object_spilling_config(node)


@pytest.mark.parametrize("text", ["s3:/bucket/x", "file:/tmp/x", "https://bucket.s3.amazonaws.com"])
def test_what_was_meant_as_a_uri_is_not_rays_to_take(text: str) -> None:
    """Ray would spill to a directory called s3: in the working directory."""
    found = json.loads(spilling_config(None, text))
    assert found == {"type": "fsspec", "params": {"uri": text}}


@pytest.mark.parametrize("config", [CONFIG, {**CONFIG, "params": {"uri": [URI], "prefix": "p"}}])
def test_a_configuration_may_be_an_object(config: dict[str, Any]) -> None:
    """JSON in JSON is hard to write: it works as a text and as what the text stands for."""
    assert json.loads(spilling_config(config)) == config
    assert json.loads(spilling_config(json.dumps(config))) == config


@pytest.mark.parametrize("text", [str(CONFIG), json.dumps(CONFIG)[:-1], '{"type":fsspec}'])
def test_a_configuration_that_is_not_json_is_refused(text: str) -> None:
    """The message says how to write it; Ray's is of line 1 column 2 (char 1)."""
    with pytest.raises(ValueError, match=r"expected JSON, as json\.dumps makes it"):
        spilling_config(text)


@pytest.mark.parametrize(
    "arguments",
    [
        {"object_spilling_directory": "s3:/bucket/x"},
        {"_system_config": {"object_spilling_directory": URI}},
        {"_system_config": {"object_spilling_config": CONFIG}},
        {"_system_config": {"object_spilling_config": json.dumps(CONFIG)}},
        {"system_config": json.dumps({"object_spilling_config": json.dumps(CONFIG)})},
        {"_system_config": {"object_spilling_config": {"type": "filesystem", "params": {
            "directory_path": URI}}}},
    ],
)  # fmt: skip
def test_an_unsupported_ray_is_not_given_a_uri(arguments: dict[str, Any]) -> None:
    """Wherever the URI stands in its arguments."""
    assert setting_with_uri(arguments) is not None


def test_an_unsupported_ray_keeps_its_own_configurations() -> None:
    """A directory, other settings and no settings are Ray's."""
    own = {"type": "filesystem", "params": {"directory_path": "/tmp/a:b"}}
    for config in ({"object_spilling_config": json.dumps(own)}, {"max_io_workers": 1}, {}, None):
        assert setting_with_uri({"_system_config": config}) is None
    assert setting_with_uri({"object_spilling_directory": "/tmp/x"}) is None


@pytest.mark.parametrize("uris", [URI, f'["{URI}", "s3://second/x"]'])
def test_the_environment_may_name_the_uri(uris: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One or several, where Ray has no directory or configuration of its own."""
    monkeypatch.setenv("FSSPILL_URI", uris)
    expected = json.loads(uris) if uris.startswith("[") else uris
    assert json.loads(spilling_config(None)) == {"type": "fsspec", "params": {"uri": expected}}
    assert json.loads(spilling_config(None, "/tmp"))["type"] == "filesystem"
    assert json.loads(spilling_config(CONFIG)) == CONFIG
    assert setting_with_uri({}) == "FSSPILL_URI"


def test_parameters_in_the_environment_are_known_by_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The switch of the hook is none."""
    for variable in [name for name in os.environ if name.startswith("FSSPILL_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("FSSPILL_HOOK", "1")
    assert not has_parameters()
    monkeypatch.setenv("FSSPILL_PREFIX", "mine")
    assert has_parameters()
