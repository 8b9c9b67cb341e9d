"""The configuration as variables of the environment, and for ``ray start``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from fsspill.deployment.choices import LONG_WAITS, Choice
from fsspill.deployment.commented import comment
from fsspill.deployment.plan import Plan
from fsspill.storage.protocols import secret_places

__all__ = [
    "ADDRESS",
    "head_command",
    "node_command",
    "render_environment",
    "render_start",
    "start_variables",
]

ADDRESS = "HEAD:6379"
"""Address of the head, for the user to fill in."""


def render_environment(plan: Plan) -> str:
    """Return the variables for every node, as commands of a shell."""
    where = (
        "In the environment of 'ray start' on every node, or of the program where ray.init "
        "starts Ray."
    )
    lines = [*comment(f"{where} {_credentials(plan)}"), "", *_exports(plan.environment())]
    if not plan.settings.local:
        waits = LONG_WAITS._replace(name=f"RAY_{LONG_WAITS.name}")
        lines += _exports([waits])
    return "\n".join(lines)


def render_start(plan: Plan) -> str:
    """Return the commands that start a head and the other nodes."""
    exports = list(_exports(start_variables(plan)))
    lines = [
        *comment(f"On the head. {_credentials(plan)}"),
        "",
        *exports,
        head_command(plan),
        "",
        *comment("On every other node, with the address of the head."),
        *(line for line in exports if not line.startswith("#")),
        node_command(),
    ]
    return "\n".join(lines)


def start_variables(plan: Plan) -> list[Choice]:
    """Return the variables of ``ray start``, which takes a single URI as an option."""
    named = isinstance(plan.uri, str)
    return [each for each in plan.environment() if not (named and each.name == "FSSPILL_URI")]


def head_command(plan: Plan) -> str:
    """Return the command that starts a head; several URIs are in its environment."""
    if isinstance(plan.uri, str):
        return f"ray start --head --object-spilling-directory={shlex.quote(plan.uri)}"
    return "ray start --head"


def node_command() -> str:
    """Return the command that starts another node."""
    return f"ray start --address={ADDRESS}"


def _exports(variables: Iterable[Choice]) -> Iterator[str]:
    for each in variables:
        line = f"export {each.name}={shlex.quote(str(each.value))}"
        yield from comment(each.reason) if each.reason else ()
        yield f"# {line}" if each.optional else line


def _credentials(plan: Plan) -> str:
    """Return a sentence about the places of credentials of a machine."""
    texts = dict.fromkeys(secret_places(uri) for uri in plan.settings.uri)
    return f"Credentials: {'; '.join(texts)}." if any(texts) else ""
