"""``fsspill dashboard``: a dashboard for Grafana, and alert rules for Prometheus."""

from __future__ import annotations

import os

import click

from fsspill.errors import ConfigError
from fsspill.monitoring.alerts import make_rules
from fsspill.monitoring.dashboard import make_dashboard

__all__ = ["dashboard"]

_FILES = {"fsspill-dashboard.json": make_dashboard, "fsspill-alerts.yml": make_rules}


@click.command(
    short_help="Write a dashboard for Grafana and alert rules for Prometheus.",
    epilog="""\b
Examples:
  fsspill dashboard --out monitoring
  fsspill dashboard --out /etc/prometheus/rules --force
""",
)
@click.option("--out", metavar="DIR", required=True, help="Directory for them; it is created.")
@click.option("--force", is_flag=True, help="Overwrite files of these names that differ.")
def dashboard(out: str, force: bool) -> None:
    """Write a dashboard for Grafana and alert rules for Prometheus to a directory.

    The files are fsspill-dashboard.json and fsspill-alerts.yml. They need a Prometheus that reads
    the metrics of Ray's nodes.
    """
    texts = {os.path.join(out, name): make() for name, make in _FILES.items()}
    try:
        changed = [path for path, text in texts.items() if _differs(path, text)]
        if changed and not force:
            raise ConfigError(
                f"cannot write to {out!r}: its {os.path.basename(changed[0])} differs. Expected "
                "--force, or another --out."
            )
        os.makedirs(out, exist_ok=True)
        for path, text in texts.items():
            with open(path, "w") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write to {out!r}: {error}") from error
    for path in texts:
        click.echo(f"wrote {path}")
    click.echo(
        "In Grafana: Dashboards, New, Import, and choose the .json file. In prometheus.yml: name "
        "the .yml file under rule_files, then reload Prometheus."
    )


def _differs(path: str, text: str) -> bool:
    """Return True if there is a file that is not what would be written."""
    try:
        with open(path, "rb") as file:
            return file.read() != text.encode()
    except FileNotFoundError:
        return False
