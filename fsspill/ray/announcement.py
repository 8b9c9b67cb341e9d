"""The announcement of a node: its version of fsspill, where the head of the cluster sees it.

Ray's key-value store of the cluster has it. Only a process that Ray's hook has reached announces
its node, so a node without the package, or with the hook off, has none.
"""

from __future__ import annotations

import os
from typing import Any

import fsspill

__all__ = ["NAMESPACE", "announce", "key_of"]

NAMESPACE = b"fsspill"
"""Namespace of Ray's key-value store."""

_TIMEOUT = 10.0
"""Seconds for the request."""


def key_of(node_id: str) -> bytes:
    """Return the key of a node's announcement."""
    return f"node:{node_id}".encode()


def announce(node: Any) -> None:
    """Announce a node that has started.

    Parameters
    ----------
    node : ray._private.node.Node
        The node, which starts its IO workers in the environment and with the Python of this
        process; `ray.cluster_utils` may give them another environment.

    Notes
    -----
    One request to Ray's head.
    """
    given = node._ray_params.env_vars or {}
    if given.get("FSSPILL_HOOK", os.environ.get("FSSPILL_HOOK")) == "0":
        return
    node.get_gcs_client().internal_kv_put(
        key_of(node.node_id), fsspill.__version__.encode(), True, NAMESPACE, timeout=_TIMEOUT
    )
