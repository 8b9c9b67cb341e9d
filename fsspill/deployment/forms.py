"""The forms of a configuration, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fsspill.deployment.choices import Choice
from fsspill.deployment.manifests import Images, manifests, render_manifests
from fsspill.deployment.plan import Plan
from fsspill.deployment.ray_init import render_init, system_config
from fsspill.deployment.shell import (
    head_command,
    node_command,
    render_environment,
    render_start,
    start_variables,
)

__all__ = ["FORMS", "Form"]


class Form(NamedTuple):
    """A form of a configuration.

    Attributes
    ----------
    title : str
        Where it goes.
    render : callable
        Returns the text to paste.
    describe : callable
        Returns the same for programs.
    kubernetes : bool
        True if it is for pods.
    """

    title: str
    render: Callable[[Plan, Images], str]
    describe: Callable[[Plan, Images], Any]
    kubernetes: bool = False


def _start(plan: Plan) -> dict[str, Any]:
    variables = _set(start_variables(plan))
    return {"environment": variables, "head": head_command(plan), "node": node_command()}


def _set(variables: Iterable[Choice]) -> dict[str, str]:
    return {each.name: each.value for each in variables if not each.optional}


FORMS: Mapping[str, Form] = {
    "init": Form(
        "a program that starts Ray",
        lambda plan, images: render_init(plan),
        lambda plan, images: {"_system_config": system_config(plan)},
    ),
    "start": Form(
        "'ray start'",
        lambda plan, images: render_start(plan),
        lambda plan, images: _start(plan),
    ),
    "env": Form(
        "the environment",
        lambda plan, images: render_environment(plan),
        lambda plan, images: _set(plan.environment()),
    ),
    "kuberay": Form("KubeRay", render_manifests, manifests, kubernetes=True),
}
"""Every form, in the order in which all are printed."""
