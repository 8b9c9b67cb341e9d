"""``fsspill config``: what to paste, so that a Ray cluster spills to a URI."""

from __future__ import annotations

import click

from fsspill.cli.options import json_option, size
from fsspill.cli.tables import print_json
from fsspill.deployment.commented import comment
from fsspill.deployment.credentials import Source
from fsspill.deployment.forms import FORMS
from fsspill.deployment.manifests import images_of
from fsspill.deployment.plan import make_plan

__all__ = ["config"]


@click.command(
    short_help="Print what to paste, so that Ray spills to a URI.",
    epilog="""\b
Examples:
  fsspill config s3://bucket/spill
  fsspill config s3://bucket/spill --for kuberay
  fsspill config s3://bucket/spill --for env --object-size 1MiB
  fsspill config file:///mnt/nfs/spill --shared --for init
""",
)
@click.argument("uris", metavar="URI...", nargs=-1, required=True)
@click.option(
    "--for",
    "form",
    type=click.Choice(list(FORMS)),
    help="Only for this place: a program that calls ray.init, 'ray start', the environment, or "
    "KubeRay (default: all of them).",
)
@click.option(
    "--object-size",
    type=size,
    metavar="SIZE",
    help="Size of most objects of the program, such as 1MiB: up to 4 MiB more IO workers are "
    "faster.",
)
@click.option("--shared", is_flag=True, help="The file:// URI is a directory of all nodes.")
@click.option(
    "--cache-dir",
    metavar="DIR",
    help="Directory of each node for local copies (default: none; a volume under KubeRay).",
)
@click.option(
    "--cache-max-bytes",
    type=size,
    metavar="SIZE",
    help="Size of all local copies of a node (default: 20GiB); 0 for none.",
)
@click.option(
    "--credentials",
    type=click.Choice(["role", "secret"]),
    help="Where pods get their credentials from: a role of their service account, or a secret "
    "(default: as is usual for the storage).",
)
@click.option("--image", help="Image of the pods, with Ray and fsspill.")
@json_option
def config(
    uris: tuple[str, ...],
    form: str | None,
    object_size: int | None,
    shared: bool,
    cache_dir: str | None,
    cache_max_bytes: int | None,
    credentials: Source | None,
    image: str | None,
    as_json: bool,
) -> None:
    """Print what to paste, so that a Ray cluster spills to URI, or to several.

    The settings of Ray have the values that were fastest when they were measured, with the
    measurement in a comment. The URI is checked as Ray's start checks it, but for the storage
    itself: no request is made. Credentials are never printed; a comment says where they go.
    """
    names = [form] if form else list(FORMS)
    plans = {
        name: make_plan(
            uris,
            kubernetes=FORMS[name].kubernetes,
            shared=shared,
            object_size=object_size,
            cache_dir=cache_dir,
            # Alone, it is for pods: all other nodes have to name a directory.
            cache_max_bytes=cache_max_bytes
            if cache_dir or form or FORMS[name].kubernetes
            else None,
            source=credentials,
        )
        for name in names
    }
    images = images_of(image)
    if as_json:
        print_json({name: FORMS[name].describe(plan, images) for name, plan in plans.items()})
        return
    for name, plan in plans.items():
        if not form:
            _print_title(f"---- For {FORMS[name].title} (--for {name}) ----", name == names[0])
        click.echo(FORMS[name].render(plan, images))


def _print_title(title: str, is_first: bool) -> None:
    """Print a title as a comment of any of the forms."""
    if not is_first:
        click.echo()
    click.echo("\n".join([*comment(title), ""]))
