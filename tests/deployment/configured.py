"""The settings that Ray's head gets from a configuration, by way of the hook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from fsspill import Settings
from fsspill.config import make_node_settings
from fsspill.environment import with_environment


def settings_of_environment(
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    directory: str | None = None,
) -> Settings:
    """Return the settings with these variables, and the directory of ``ray start``."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return settings_of({}, directory)


def settings_of(system_config: Mapping[str, Any], directory: str | None = None) -> Settings:
    """Return the settings with what Ray calls the system configuration."""
    node = pytest.importorskip("ray._private.node").Node
    params = SimpleNamespace(object_spilling_directory=directory)
    head = SimpleNamespace(_ray_params=params, _config=dict(system_config))
    config = json.loads(node._get_object_spilling_config(head))
    return make_node_settings(with_environment(config, "cluster"))
