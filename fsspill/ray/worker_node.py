"""The start of a worker node: the directory that it names, and the storage that it reaches."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from _fsspill_config import names_directory

from fsspill.config import make_node_settings, make_settings
from fsspill.environment import require_same_parameters, with_environment
from fsspill.errors import ConfigError, FsspillError
from fsspill.external_storage import ExternalStorage
from fsspill.log import get_logger
from fsspill.ray.announcement import announce
from fsspill.settings import COPY_PARAMETERS, Settings

__all__ = ["check_worker_node", "on_worker_node_started"]

logger = get_logger(__name__)


def check_worker_node(node: Any) -> None:
    """Refuse a worker node whose own settings differ from those of the cluster.

    Parameters
    ----------
    node : ray._private.node.Node
        A worker node that names a spill directory, or has parameters of fsspill in its environment,
        before it starts its processes.

    Raises
    ------
    ConfigError
        One of the two directories is a URI, and they differ; or a parameter does that all nodes
        have in common. Without this check, the node's own setting would silently be ignored.
    """
    try:
        own = json.loads(node._object_spilling_config or "{}")
        cluster = json.loads(_system_config(node).get("object_spilling_config") or "{}")
    except Exception as error:
        # Of another Ray than expected, or of a head that Ray itself cannot reach, as it reports.
        logger.warning(
            "could not compare the spill directory of this node with the head's, which counts: %s",
            error,
        )
        return
    if names_directory(node) or os.environ.get("FSSPILL_URI"):
        _require_same_directory(own, cluster)
    if cluster.get("type") == "fsspec":
        require_same_parameters(cluster)


def _require_same_directory(own: Mapping[str, Any], cluster: Mapping[str, Any]) -> None:
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
    Never raises. One request to Ray's head, and four per URI. The lines go to the standard error
    of this process, which is that of ``ray start``, and to the drivers. What sessions before have
    left of local copies is removed.
    """
    try:
        announce(node)
    except Exception as error:
        logger.warning(
            "the head cannot see that this node has fsspill, and tells the drivers so: %s", error
        )
    try:
        config = json.loads(node._config["object_spilling_config"])
        _report(node, lambda: _check_storage(node, config), "spill or restore objects")
        _report(node, lambda: _check_copies(node, config), "keep local copies")
    except Exception as error:
        logger.warning(
            "could not check the storage of this node, which its first spill will do: %s", error
        )


def _check_storage(node: Any, config: Mapping[str, Any]) -> None:
    settings = make_settings(with_environment(config, "node", without=COPY_PARAMETERS))
    _storage(node, settings).check()


def _check_copies(node: Any, config: Mapping[str, Any]) -> None:
    _storage(node, make_node_settings(config)).files.check_copies()


def _storage(node: Any, settings: Settings) -> ExternalStorage:
    return ExternalStorage(settings, node_id=node.node_id, session_name=node._session_name)


def _report(node: Any, check: Callable[[], None], what: str) -> None:
    """Tell the drivers, and this process's user, that a node cannot do something."""
    try:
        check()
    except FsspillError as error:
        message = f"fsspill: node {node.node_ip_address} cannot {what}: {error}"
        # Not through the log, which `ray start` shows with some versions of Ray only.
        sys.stderr.write(f"{message}\n")
        _tell_drivers(node, message)


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
