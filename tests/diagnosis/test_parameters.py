"""Parameters that are in effect, with the place of each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from fsspill.diagnosis.parameters import parameters_in_effect, settings_in_effect
from fsspill.diagnosis.run import diagnose
from fsspill.settings import Settings


def in_effect(config: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    found = diagnose(config, source="command line", speed=False).parameters
    return {each.name: (each.value, each.source) for each in found}


def test_each_parameter_has_its_place(memory_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration, a variable, or its default."""
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "1048576")
    monkeypatch.setenv("FSSPILL_URI", "memory://other")
    found = in_effect({"type": "fsspec", "params": {"uri": memory_uri}})
    assert found["uri"] == ([memory_uri], "command line")
    assert found["file_size"] == (2**20, "FSSPILL_FILE_SIZE")
    assert found["digest"] == ("xxh3_128", "default")
    assert list(found) == [parameter.name for parameter in fields(Settings)]


def test_variables_of_the_cluster_count_on_the_head_alone(
    memory_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node has what the head distributes."""
    monkeypatch.setenv("FSSPILL_PREFIX", "own")
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "1048576")
    config = {"type": "fsspec", "params": {"uri": memory_uri}}
    settings = settings_in_effect(config, ["node"])
    assert (settings.prefix, settings.file_size) == ("", 2**20)
    found = {each.name: each.source for each in parameters_in_effect(settings, config, "cluster")}
    assert found["prefix"] == "default"
    assert settings_in_effect(config, ["cluster", "node"]).prefix == "own"


def test_secrets_are_not_shown(memory_uri: str) -> None:
    """Of options."""
    options = {"secret": "0123456789", "key": "id"}
    config = {"type": "fsspec", "params": {"uri": "s3://b", "storage_options": options}}
    settings = settings_in_effect(config, [])
    [shown] = [
        each.value
        for each in parameters_in_effect(settings, config, "x")
        if each.name == "storage_options"
    ]
    assert shown == {"secret": "***", "key": "id"}
