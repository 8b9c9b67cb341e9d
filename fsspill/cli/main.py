"""The command ``fsspill``: a group whose commands are imported when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from fsspill import __version__
from fsspill.cli.log import show_warnings
from fsspill.error_chain import redact_errors
from fsspill.errors import FsspillError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "fsspill.cli.demo:demo",
    "ls": "fsspill.cli.ls:ls",
    "du": "fsspill.cli.du:du",
    "clean": "fsspill.cli.clean:clean",
    "inspect": "fsspill.cli.inspect:inspect",
    "config": "fsspill.cli.config:config",
    "check": "fsspill.cli.check:check",
    "bench": "fsspill.cli.bench:bench",
    "top": "fsspill.cli.top:top",
    "dashboard": "fsspill.cli.dashboard:dashboard",
}
"""Module and attribute of each command, in the order of ``--help``. A command returns its exit
code, or None for 0."""

_USAGE = 2
_INTERRUPTED = 130
"""Exit code of a process that Ctrl-C ended, as shells count."""

_COMPLETING = "_FSSPILL_COMPLETE"
"""Variable by which a shell asks click for completions."""


class _LazyGroup(click.Group):
    """A group of commands that are imported when they are asked for."""

    def __init__(self, *args: Any, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(_USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], self._table)
        if near and args[0] not in self._table and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        with _show_while(f"fsspill {args[0]} ..."):
            return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, attribute = self._table[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@contextmanager
def _show_while(text: str) -> Iterator[None]:
    """Show a text during a block, where somebody waits: some commands take a second to import."""
    shown = (
        sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and _COMPLETING not in os.environ
    )
    if shown:
        click.echo(text, nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)


@click.group(
    cls=_LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  fsspill demo
  fsspill ls s3://bucket/spill
  fsspill COMMAND --help

Exit codes: 0 if everything succeeded, 1 if anything failed, 2 if the command cannot be understood.
""",
)
@click.version_option(__version__, message="fsspill %(version)s")
def fsspill() -> None:
    """Spill the objects of a Ray cluster to any fsspec URI."""


@redact_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; those of the process if not given.

    Returns
    -------
    int
        0 if everything succeeded, 1 if anything failed or was left behind, 2 if the arguments
        cannot be understood, 130 after Ctrl-C.
    """
    arguments = None if argv is None else list(argv)
    try:
        with show_warnings():
            return fsspill.main(arguments, prog_name="fsspill", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return _USAGE
    except click.Abort:
        click.echo("fsspill: interrupted", err=True)
        return _INTERRUPTED
    except FsspillError as error:
        click.echo(f"fsspill: {error}", err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
