"""Configurations of Ray's own storage types."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.config import make_settings

MIB = 2**20


@pytest.mark.parametrize("listed", [False, True])
def test_type_filesystem_is_translated(tmp_path: Path, listed: bool) -> None:
    """Ray's own configuration for directories works, with one path or several."""
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    directories: Any = paths if listed else paths[0]
    params = {"directory_path": directories, "buffer_size": MIB}
    settings = make_settings({"type": "filesystem", "params": params})
    assert settings.node_local
    assert settings.uris == [f"file://{path}" for path in (paths if listed else paths[:1])]


def test_type_filesystem_takes_relative_paths(tmp_path: Path, monkeypatch: Any) -> None:
    """As with Ray's class, a relative path is relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    settings = make_settings({"type": "filesystem", "params": {"directory_path": "spill"}})
    assert settings.uris == [f"file://{os.path.realpath(tmp_path)}/spill"]


def test_type_smart_open_is_translated() -> None:
    """Ray's configuration for smart_open works; parameters are mapped to those of s3fs."""
    transport = {
        "buffer_size": MIB,
        "defer_seek": True,
        "min_part_size": 8 * MIB,
        "resource_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
    }
    params = {
        "uri": ["s3://a/x/", "s3://b"],
        "prefix": "spilled",
        "buffer_size": 100,
        "override_transport_params": transport,
    }
    settings = make_settings({"type": "smart_open", "params": params})
    assert settings.uris == ["s3://a/x/spilled", "s3://b/spilled"]
    assert settings.storage_options == {
        "default_block_size": 8 * MIB,
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
    }


@pytest.mark.parametrize(
    ("name", "value", "counterpart"),
    [
        ("session", object(), "profile"),
        ("client", object(), "AWS_"),
        ("timeout", 3, "read_timeout"),
        ("client_kwargs", {"S3.Client.put_object": {}}, "s3_additional_kwargs"),
        ("surprise", 1, "storage_options"),
    ],
)
def test_smart_open_parameters_without_counterpart_are_refused_by_name(
    name: str, value: object, counterpart: str
) -> None:
    """The message names the parameter and its substitute."""
    params = {"uri": "s3://a", "override_transport_params": {name: value}}
    with pytest.raises(ConfigError, match=f"{name}.*{counterpart}"):
        make_settings({"type": "smart_open", "params": params})


@pytest.mark.parametrize("kind", ["mock_distributed_fs", "unstable_fs", "nonsense", None, 3])
def test_unknown_types_are_refused_with_an_alternative(kind: Any) -> None:
    """The error is a ValueError that names the known types and an alternative."""
    with pytest.raises(ValueError, match=r"'fsspec', 'filesystem', 'smart_open'.*Use"):
        make_settings({"type": kind, "params": {}})


def test_mock_distributed_fs_points_to_a_real_server() -> None:
    """A real S3 API takes the place of the mock."""
    with pytest.raises(ConfigError, match="moto"):
        make_settings({"type": "mock_distributed_fs", "params": {"directory_path": "/tmp"}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "filesystem", "params": {"directory_path": ""}}, "expected a path"),
        ({"type": "filesystem", "params": {"directory_path": [1]}}, "expected a path"),
        (
            {"type": "filesystem", "params": {"directory_path": "/a", "buffer_size": "1"}},
            "buffer_size='1': expected an integer",
        ),
        (
            {"type": "smart_open", "params": {"uri": "s3://a", "override_transport_params": 1}},
            "expected a mapping",
        ),
    ],
)
def test_wrong_parameters_are_named(config: Any, message: str) -> None:
    """The error names the parameter, its value and what was expected."""
    with pytest.raises(ConfigError, match=message):
        make_settings(config)
