"""Every attribute of Ray that fsspill relies on and that Ray may change in any release.

The hook looks at what it wraps when Ray is imported (``_fsspill_wrappers``). `check_internals`
looks at all of it on the head, before anything is started, so that no IO worker fails for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import _fsspill_wrappers

from fsspill.errors import ConfigError

__all__ = ["INTERNALS", "Internal", "check_internals"]


class Internal(NamedTuple):
    """An attribute of Ray, and what happens where it is missing."""

    path: str
    """Dotted; one that begins with ``node`` is an attribute of the head's Node."""

    without: str
    """Consequence for users."""

    required: bool = True
    """True if the head refuses to spill to a URI without it, and names it."""


_REFUSED = "Ray stays as it is; a URI is refused by ray.init and ray start"
_CHECKED = "a URI is refused by the check of the head"
_UNCHECKED = "a worker node that names another directory is not refused; a warning is logged"
_UNREPORTED = "a worker node that cannot use the storage reports it at its first spill"
_UNTOLD = "drivers are not told of nodes without fsspill; a warning is logged"
_NO_HEARTBEAT = (
    "no heartbeat of the session; a warning is logged, and clean leaves the session alone"
)

INTERNALS = (
    Internal("ray._private.node.Node._get_object_spilling_config", _REFUSED),
    Internal("ray._private.node.Node.validate_external_storage", _REFUSED),
    Internal("ray._private.node.Node.start_ray_processes", _REFUSED),
    Internal("ray._private.external_storage.setup_external_storage", _CHECKED),
    Internal("ray._private.external_storage._external_storage", _CHECKED),
    Internal("ray._private.workers.default_worker", _CHECKED),  # the program of IO workers
    Internal("node.head", _REFUSED),
    Internal("node._object_spilling_config", _REFUSED),
    Internal("node._config", _CHECKED),
    Internal("node._session_name", _CHECKED),
    Internal("node._ray_params._system_config", _CHECKED),
    Internal("ray._private.worker.global_worker.connected", _CHECKED),
    Internal("ray._private.worker.global_worker.get_serialization_context", _CHECKED),
    Internal("ray._raylet.CoreWorker.get_if_local", _CHECKED),
    Internal("ray._raylet.CoreWorker.put_file_like_object", _CHECKED),
    Internal("ray._private.serialization.SerializationContext.serialize", _CHECKED),
    Internal("ray._raylet.SerializedObject.metadata", _CHECKED),
    Internal("ray._raylet.MessagePackSerializedObject.to_bytes", _CHECKED),
    Internal("ray.exceptions.ObjectLostError", _CHECKED),
    Internal(
        "ray._private.utils.push_error_to_driver",
        "messages are in the logs of IO workers only, not on the drivers",
        required=False,
    ),
    Internal(
        "ray._private.worker.Worker.node_ip_address",
        "messages name the id of a node, not its address",
        required=False,
    ),
    Internal(
        "node._ray_params.object_spilling_directory",
        "a worker node that names another directory is refused if a variable names it",
        required=False,
    ),
    Internal("node.gcs_address", _UNCHECKED, required=False),
    Internal("node.cluster_id", _UNCHECKED, required=False),
    Internal("ray._raylet.GcsClientOptions.create", _UNCHECKED, required=False),
    Internal("ray._private.state.GlobalState.get_system_config", _UNCHECKED, required=False),
    Internal("ray._private.state.GlobalState._initialize_global_state", _UNCHECKED, required=False),
    Internal(
        "ray._private.state.state.get_system_config",
        "fsspill check --cluster has to be given a URI",
        required=False,
    ),
    Internal("node.node_id", _UNREPORTED, required=False),
    Internal("node.node_ip_address", _UNREPORTED, required=False),
    Internal("node.get_gcs_client", _UNREPORTED, required=False),
    Internal("ray._private.utils.publish_error_to_driver", _UNREPORTED, required=False),
    Internal("node._ray_params.env_vars", _UNTOLD, required=False),
    Internal("ray._raylet.GcsClient", _UNTOLD, required=False),
    Internal("ray._raylet.InnerGcsClient.internal_kv_put", _UNTOLD, required=False),
    Internal("ray._raylet.InnerGcsClient.internal_kv_get", _UNTOLD, required=False),
    Internal("ray._raylet.InnerGcsClient.internal_kv_del", _UNTOLD, required=False),
    Internal("ray._raylet.InnerGcsClient.get_all_node_info", _UNTOLD, required=False),
    Internal("ray._raylet.InnerGcsClient.get_all_job_info", _UNTOLD, required=False),
    Internal(
        "ray.scripts.scripts.main",
        "no 'python -m fsspill.ray'; PYTHONPATH does the same",
        required=False,
    ),
    Internal("node.all_processes", _NO_HEARTBEAT, required=False),
    Internal("node.get_logs_dir_path", _NO_HEARTBEAT, required=False),
)


def check_internals(node: Any) -> None:
    """Raise ConfigError if this Ray lacks an attribute without which fsspill cannot work.

    Parameters
    ----------
    node : ray._private.node.Node
        The head.
    """
    missing = [row.path for row in INTERNALS if row.required and not exists(row.path, node)]
    if missing or not _fsspill_wrappers.is_wrapped("ray._private.external_storage"):
        lacking = f" It lacks {', '.join(missing)}." if missing else ""
        raise ConfigError(f"cannot spill to a URI: {_fsspill_wrappers.explanation()}{lacking}")


def exists(path: str, node: Any) -> bool:
    """Return True if Ray, or the Node for a path that begins with ``node``, has an attribute."""
    root, *names = path.split(".")
    found = node if root == "node" else importlib.import_module(root)
    return _has(found, root, names)


def _has(found: Any, path: str, names: Sequence[str]) -> bool:
    for name in names:
        path = f"{path}.{name}"
        if not hasattr(found, name):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        found = getattr(found, name)
    return True
