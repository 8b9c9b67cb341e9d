"""The configuration for a program that starts Ray itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fsspill.deployment.choices import LEFT_ALONE, Choice
from fsspill.deployment.commented import comment, to_python, without_comments
from fsspill.deployment.plan import Plan

__all__ = ["render_init", "system_config"]


def render_init(plan: Plan) -> str:
    """Return the lines of a program."""
    lines = [
        *comment("In the program that starts Ray, with fsspill installed where it runs."),
        "import ray",
        "",
        f"ray.init(_system_config={to_python(_system_config(plan))})",
    ]
    return "\n".join(lines)


def system_config(plan: Plan) -> dict[str, Any]:
    """Return the settings of Ray, as ``ray.init(_system_config=...)`` takes them."""
    config: dict[str, Any] = without_comments(_system_config(plan))
    return config


def _system_config(plan: Plan) -> dict[str, Any]:
    spilling = {"type": "fsspec", "params": {"uri": plan.uri, **_entries(plan.parameters)}}
    settings = _entries(plan.ray_settings)
    if settings:
        settings[f"# {LEFT_ALONE}"] = None
    return {"object_spilling_config": spilling, **settings}


def _entries(choices: Iterable[Choice]) -> dict[str, Any]:
    """Return settings after their reasons; those that are optional are a comment alone."""
    entries: dict[str, Any] = {}
    for name, value, reason, optional in choices:
        if optional:
            entries[f"# {reason}\n{json.dumps(name)}: {value!r},"] = None
        else:
            entries |= {f"# {reason}": None, name: value}
    return entries
