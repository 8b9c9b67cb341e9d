"""The endpoints at which the nodes of a cluster export their metrics, as Ray's head knows them."""

from __future__ import annotations

import socket

from fsspill.errors import ConfigError, MissingPackageError

__all__ = ["metrics_endpoints"]

_TIMEOUT = 10.0
"""Seconds for a request to Ray's head."""

_ALIVE = 0
"""State of a node in Ray's protocol."""


def metrics_endpoints(address: str) -> list[str]:
    """Return the host and port of each live node's metrics.

    Parameters
    ----------
    address : str
        Host and port of Ray's head, as in ``ray.init(address=...)``.

    Raises
    ------
    ConfigError
        It cannot be reached, or does not answer.
    MissingPackageError
        Ray is not installed.
    """
    _check(address)
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingPackageError(
            "cannot ask a head for its nodes: expected the package ray. Install it: "
            'pip install "fsspill[ray]", or name the endpoints: --metrics URL'
        ) from error
    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=_TIMEOUT).values()
    except Exception as error:
        raise ConfigError(
            f"cannot ask the head at {address} for its nodes: {error}. Expected the address of "
            "Ray's head, with the Ray of this environment."
        ) from error
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for info in nodes
        if info.state == _ALIVE
        and (port := info.metrics_export_port) > 0  # -1 without ray[default]
        for host in [info.node_manager_address]
    ]


def _check(address: str) -> None:
    """Connect once: Ray's own client would try for a minute, and end the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"cannot reach a head of Ray at {address!r}: {error}. Expected its host and port, as "
            "in 10.0.0.1:6379."
        ) from error
