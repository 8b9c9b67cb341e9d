"""The start of a worker node: the directory that it names, and the storage that it reaches."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from fsspill.config import make_node_settings
from fsspill.errors import ConfigError, FsspillError
from fsspill.external_storage import ExternalStorage
from fsspill.log import get_logger
from fsspill.ray.announcement import announce

__all__ = ["check_worker_node", "on_worker_node_started"]

logger = get_logger(__name__)


def check_worker_node(node: Any) -> None:
    """Refuse a worker node whose spill directory differs from that of the cluster.

    Parameters
    ----------
    node : ray._private.node.Node
        A worker node that names a spill directory, before it starts its processes.

    Raises
    ------
    ConfigError
        One of the two directories is a URI, and they differ. Without this check, Ray would
        silently ignore the node's own setting.
    """
    try:
        own = json.loads(node._object_spilling_config)
        cluster = json.loads(_system_config(node).get("object_spilling_config") or "{}")
    except Exception as error:
        # Of another Ray than expected, or of a head that Ray itself cannot reach, as it reports.
        logger.warning(
            "could not compare the spill directory of this node with the head's: %s", error
        )
        return
    if "fsspec" not in (own.get("type"), cluster.get("type")) or _uris(own) == _uris(cluster):
        return
    raise ConfigError(
        f"cannot start this node with object spilling directory {_shown(own)}: the head of the "
        f"cluster spills to {_shown(cluster)}, and with a URI there is one for all nodes. Leave "
        "out --object-spilling-directory (and RAY_object_spilling_directory, FSSPILL_URI) here, or "
        "start the head with it."
    )


def on_worker_node_started(node: Any) -> None:
    """Announce a worker node that has joined the cluster, and report a storage it cannot use.

    The node stays: the storage may only be unreachable now, and tasks that do not spill can run.
    Its first spill would tell the same, but later, and with tasks in the way.

    Parameters
    ----------
    node : ray._private.node.Node
        A worker node that has started its processes.

    Notes
    -----
    Never raises. One request to Ray's head, and four per URI. The line goes to the standard error
    of this process, which is that of ``ray start``, and to the drivers.
    """
    try:
        announce(node)
    except Exception as error:
        logger.warning("the head cannot see that this node has fsspill: %s", error)
    try:
        settings = make_node_settings(json.loads(node._config["object_spilling_config"]))
        ExternalStorage(settings, node_id=node.node_id, session_name=node._session_name).check()
    except FsspillError as error:
        message = f"fsspill: node {node.node_ip_address} cannot spill or restore objects: {error}"
        # Not through the log, which `ray start` shows with some versions of Ray only.
        sys.stderr.write(f"{message}\n")
        _tell_drivers(node, message)
    except Exception as error:
        logger.warning("could not check the storage of this node: %s", error)


def _tell_drivers(node: Any, message: str) -> None:
    from ray._private.utils import publish_error_to_driver

    publish_error_to_driver("fsspill", message, node.get_gcs_client())


def _system_config(node: Any) -> dict[str, Any]:
    """Return the system configuration that the head has published."""
    import ray

    options = ray._raylet.GcsClientOptions.create(
        node.gcs_address,
        node.cluster_id.hex(),
        allow_cluster_id_nil=False,
        fetch_cluster_id_if_nil=False,
    )
    state = ray._private.state.GlobalState()
    state._initialize_global_state(options)
    config: dict[str, Any] = state.get_system_config()
    return config


def _uris(config: Mapping[str, Any]) -> list[str]:
    params = config.get("params") or {}
    named = params.get("uri") or params.get("directory_path") or []
    return [uri.rstrip("/") for uri in ([named] if isinstance(named, str) else named)]


def _shown(config: Mapping[str, Any]) -> str:
    return ", ".join(_uris(config)) or "its default"
