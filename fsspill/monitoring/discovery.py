"""The endpoints of the Ray cluster on this machine, as its head lists them for Prometheus."""

from __future__ import annotations

import json
import os
import sys

from fsspill.errors import ConfigError

__all__ = ["discover"]

_FILE = "prom_metrics_service_discovery.json"
"""Name of the list, which Ray's dashboard writes every 5 seconds."""

_NO_NODES = (":44217", ":44227")
"""Ports of Ray's autoscaler and dashboard, which are listed too, whether they listen or not."""

_EXPECTED = (
    "The head of a cluster that runs here writes it, with ray[default] and its dashboard. Else "
    "name a head, as in 'fsspill top 10.0.0.1:6379', or endpoints by --metrics URL."
)


def discover() -> list[str]:
    """Return the host and port of each endpoint of the cluster on this machine.

    Raises
    ------
    ConfigError
        There is no list of them, or it cannot be read.
    """
    path = os.path.join(_system_directory(), "ray", _FILE)
    try:
        with open(path) as file:
            targets = [target for group in json.load(file) for target in group["targets"]]
        return [target for target in targets if not target.endswith(_NO_NODES)]
    except FileNotFoundError as error:
        raise ConfigError(
            f"found no cluster with metrics: expected the file {path}. {_EXPECTED}"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"cannot read the list of endpoints {path}: {error}. {_EXPECTED}"
        ) from error


def _system_directory() -> str:
    """Return the directory in which Ray has its own, by Ray's rules."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    return next((os.environ[name] for name in names if name in os.environ), "/tmp")
