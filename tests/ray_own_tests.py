"""Ray's own tests of spilling with URIs in place of directories: a plug-in of pytest.

Those tests are in Ray's repository, not in its wheel, and no copy of them is kept here;
docs/development.md says how to run them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

__all__ = ["STORAGES", "Spilling", "storage_of"]

ON_RAYS_OWN = {
    "test_custom_spill_dir": "it names a directory, which stays Ray's own",
    "test_default_config": "it names no storage, which stays Ray's own",
    "test_delete_file_non_exists": "it calls Ray's classes of storage",
    "test_invalid_config_raises_exception": "it asks for the parameters of Ray's class",
    "test_node_id_in_spill_dir_name": "it calls Ray's class of storage",
    "test_set_": "it names a directory, which stays Ray's own",
    "test_spill_file_uniqueness": "it calls Ray's classes of storage",
}
"""Tests, by the beginnings of their names, that run as they are: fsspill must change nothing."""

NOT_APPLICABLE = {
    "test_slow_spill_objects_automatically": "it is slowed down by a class of Ray's tests",
    "test_unstable_spill_objects_automatically": "its faults are made by a class of Ray's tests",
}
LISTED_DIRECTORIES = {
    "test_fusion_objects": "it reads the sizes of files from the directory of a node",
    "test_multiple_directories": "it counts the files in the directory of a node",
    "test_spill_dir_cleanup": "only directories of nodes are removed by raylets that start",
    "test_spill_fusion": "it reads the sizes of files from the directory of a node",
}
"""Tests that apply to the directory of a node only, by the beginnings of their names."""


class Spilling:
    """Where the tests spill to: the URI for each directory, and the files there.

    Parameters
    ----------
    scheme : str
        What stands before the path of a directory.
    environment : dict
        Environment of the processes that spill.
    """

    def __init__(self, scheme: str, **environment: str) -> None:
        self.scheme = scheme
        self.environment = environment

    def convert(self, config: str | None) -> str | None:
        """Put URIs into a configuration of Ray, as JSON, in place of directories."""
        parsed = json.loads(config) if config else {}
        if parsed.get("type") not in ("filesystem", "mock_distributed_fs"):
            return config
        directory = parsed["params"]["directory_path"]
        listed = directory if isinstance(directory, list) else [directory]
        uris = [f"{self.scheme}{path}" for path in listed]
        return json.dumps({"type": "fsspec", "params": {"uri": uris}})

    def convert_program(self, program: str) -> str:
        """Put URIs into a program in place of directories."""
        return program.replace('"directory_path": "/', f'"directory_path": "{self.scheme}/')

    def is_empty(self, folder: object, node_id: str, append_path: bool = True) -> bool:
        """Return True if a node, or all of them, have no files below a directory."""
        fs, root = fsspec.core.url_to_fs(f"{self.scheme}{folder}")
        fs.invalidate_cache()
        found = [path for path in fs.find(root) if "/fsspill_heartbeats/" not in path]
        part = f"/ray_spilled_objects_{node_id}/" if append_path else "/"
        return not any(part in path for path in found)


STORAGES = {
    "node-local": Spilling("file://"),
    "shared": Spilling("file://", FSSPILL_SHARED="true"),
    "s3": Spilling("s3://bucket"),
}


def storage_of(name: str, on: str) -> Spilling | None:
    """Return where a test spills to, or None if it runs as it is; skips what cannot apply."""
    reasons = NOT_APPLICABLE | ({} if on == "node-local" else LISTED_DIRECTORIES)
    for beginning, reason in reasons.items():
        if name.startswith(beginning):
            pytest.skip(reason)
    as_it_is = any(name.startswith(beginning) for beginning in ON_RAYS_OWN)
    return None if as_it_is else STORAGES[on]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--on``."""
    parser.addoption("--on", choices=list(STORAGES), default="node-local", help="where to spill")


@pytest.fixture(scope="session")
def _server(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Yield the environment of moto's server, where the tests need one."""
    if request.config.getoption("--on") != "s3":
        yield {}
        return
    from fsspill.testing.s3_server import S3Server

    with S3Server() as server:
        server.create_bucket("bucket")
        yield server.environment


@pytest.fixture(autouse=True)
def _uris(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _server: dict[str, str]
) -> None:
    """Have a test spill to URIs."""
    from ray._private.node import Node

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    storage = storage_of(request.node.name, request.config.getoption("--on"))
    if storage is None:
        return
    for name, value in {**_server, **storage.environment}.items():
        monkeypatch.setenv(name, value)
    get_config = Node._get_object_spilling_config

    def _get_object_spilling_config(self: Any) -> str | None:
        return storage.convert(get_config(self))

    monkeypatch.setattr(Node, "_get_object_spilling_config", _get_object_spilling_config)
    run = getattr(request.module, "run_string_as_driver", None)
    converted = {
        "is_dir_empty": storage.is_empty,
        "run_string_as_driver": run and (lambda text: run(storage.convert_program(text))),
    }
    for name, function in converted.items():
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, function)
