"""The endpoints of the cluster on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsspill.errors import ConfigError
from fsspill.monitoring.discovery import _system_directory, discover

NAME = "prom_metrics_service_discovery.json"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the list in Ray's directory."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / NAME


def test_the_list_of_ray_is_read(listed: Path) -> None:
    """In the form that Prometheus reads too."""
    targets = ["10.0.0.1:8080", "10.0.0.2:8080"]
    listed.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]))
    assert discover() == targets


def test_what_is_no_node_is_left_out(listed: Path) -> None:
    """Ray lists its autoscaler and its dashboard too, which may not answer."""
    targets = ["10.0.0.1:8080", "10.0.0.1:44217", "10.0.0.1:44227"]
    listed.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]))
    assert discover() == ["10.0.0.1:8080"]


def test_without_a_list_the_message_says_what_it_takes(listed: Path) -> None:
    """No cluster runs, or it has no metrics."""
    with pytest.raises(
        ConfigError, match=r"found no cluster with metrics: expected the file .*/ray/prom"
    ):
        discover()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"labels": {}}]', '[{"targets": [1]}]'])
def test_another_file_is_named(listed: Path, text: str) -> None:
    """With what is wrong."""
    listed.write_text(text)
    with pytest.raises(ConfigError, match=f"cannot read the list of endpoints .*{NAME}"):
        discover()


def test_ray_uses_the_directory_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the system on Linux, where no variable of Ray names another one."""
    monkeypatch.setenv("RAY_TMPDIR", "/of-ray")
    monkeypatch.setenv("TMPDIR", "/of-system")
    monkeypatch.setattr("sys.platform", "linux")
    assert _system_directory() == "/of-ray"
    monkeypatch.delenv("RAY_TMPDIR")
    assert _system_directory() == "/of-system"
    monkeypatch.setattr("sys.platform", "darwin")
    assert _system_directory() == "/tmp"
