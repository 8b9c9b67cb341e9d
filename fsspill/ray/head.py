"""The side that faces Ray when it starts.

Ray calls in through the functions that `fsspill/hook/_fsspill_startup.py` wraps:

* on the head, before anything is started, `validate_external_storage`: it checks the URI and
  raises what is wrong with it; and once it has started its processes, `on_head_started`;
* on a worker node that names a spill directory of its own, `check_worker_node`;
* in every IO worker, and in the driver at shutdown, `setup_external_storage`: it makes no request
  and never raises, because a raise there leaves ``ray.put`` blocked for ever. What it returns is
  in `fsspill.ray.io_worker`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import _fsspill_startup

from fsspill.config import make_settings
from fsspill.errors import ConfigError
from fsspill.external_storage import ExternalStorage, NullStorage
from fsspill.ray.heartbeat import start_head_process
from fsspill.ray.io_worker import FailedStorage, IOWorkerStorage
from fsspill.ray.secret_options import reject_secret_options
from fsspill.storage.protocols import protocol_of

__all__ = [
    "check_worker_node",
    "install",
    "is_installed",
    "on_head_started",
    "setup_external_storage",
    "validate_external_storage",
]

logger = logging.getLogger(__name__)

_PER_PROCESS = frozenset({"memory"})


class _ValidatedStorage(NullStorage):
    """What Ray gets during validation, which it destroys at once: there is nothing to destroy."""

    def destroy_external_storage(self) -> None:
        pass


_validating = False


def setup_external_storage(
    config: Mapping[str, Any], node_id: str, session_name: str
) -> NullStorage:
    """Set up storage of type ``fsspec`` in an IO worker, or in the driver that shuts Ray down.

    Parameters
    ----------
    config : mapping
        ``{"type": "fsspec", "params": {...}}``.
    node_id, session_name : str
        As Ray gives them.

    Returns
    -------
    IOWorkerStorage or FailedStorage
        Never raises, makes no request.
    """
    if _validating:
        return _ValidatedStorage()
    try:
        return IOWorkerStorage(make_settings(config), node_id=node_id, session_name=session_name)
    except Exception as error:
        # Without a traceback: those of causes are a filesystem's own, and may show secrets.
        logger.error("cannot set up external storage on node %s: %s", node_id, error)
        return FailedStorage(error, node_id, session_name)


def validate_external_storage(node: Any, validate: Callable[[Any], Any]) -> None:
    """Check the configuration on the head, before Ray starts anything.

    Parameters
    ----------
    node : ray._private.node.Node
        The head.
    validate : callable
        Ray's own method, which also spreads the configuration.

    Raises
    ------
    FsspillError
        What is wrong with it, where, and what to do.

    Notes
    -----
    Three requests per URI, which write, read and delete one byte.
    """
    global _validating
    if not node._config.get("automatic_object_spilling_enabled", True):
        return
    config = json.loads(node._object_spilling_config)
    settings = make_settings(config)
    storage = ExternalStorage(settings, session_name=node._session_name)
    if not settings.allow_secrets:
        for uri in storage.uris:
            reject_secret_options(uri, settings.storage_options or {})
    _refuse_per_process(storage)
    storage.check()
    node._object_spilling_config = json.dumps(_for_raylet(config, storage))
    _validating = True
    try:
        validate(node)
    finally:
        _validating = False
    # Ray derives this from its own type "filesystem". It makes a raylet ask the one that spilled
    # for the bytes, which is what files on another node's disk need.
    for system_config in (node._config, node._ray_params._system_config):
        system_config["is_external_storage_type_fs"] = storage.node_local


def on_head_started(node: Any) -> None:
    """Give the session a heartbeat, once the head has started its processes.

    Parameters
    ----------
    node : ray._private.node.Node
        The head.

    Notes
    -----
    Starts a process that lives as long as Ray's own head process (the GCS server), and writes a
    small file under each URI every 5 minutes. Without it ``fsspill clean`` could not tell a
    session that lives from one that is dead.
    """
    if not node._config.get("automatic_object_spilling_enabled", True):
        return
    settings = make_settings(json.loads(node._object_spilling_config))
    if settings.node_local:
        return  # there is no session above the files of a node's own disk
    try:
        pid = node.all_processes["gcs_server"][0].process.pid
        log = os.path.join(node.get_logs_dir_path(), "fsspill_heartbeat.log")
        start_head_process({"uri": settings}, node._session_name, pid, log)
    except Exception as error:
        # No reason for Ray not to start: what has no heartbeat, clean-up leaves alone.
        logger.warning("no heartbeat for fsspill clean to see: %s", error)


def _refuse_per_process(storage: ExternalStorage) -> None:
    for uri in storage.uris:
        if protocol_of(uri) in _PER_PROCESS:
            raise ConfigError(
                f"cannot spill a Ray cluster to {uri}: expected storage that all processes share. "
                f"Every IO worker would see its own {protocol_of(uri)}:// and restore nothing. "
                "Use file:///a/directory on one machine, or a bucket."
            )


def _for_raylet(config: Mapping[str, Any], storage: ExternalStorage) -> dict[str, Any]:
    """Add what the raylet looks for: the directories whose disk it must watch for space."""
    if not storage.node_local:
        return dict(config)
    directories = [uri.partition("://")[2] for uri in storage.uris]
    return {**config, "params": {**config["params"], "directory_path": directories}}


def check_worker_node(node: Any) -> None:
    """Refuse a worker node whose spill directory is not the one that the cluster uses.

    Parameters
    ----------
    node : ray._private.node.Node
        A worker node that names a spill directory, before it starts its processes.

    Raises
    ------
    ConfigError
        One of the two is a URI, and they differ. Without this, Ray would pass over the node's
        own setting without a word.
    """
    own = json.loads(node._object_spilling_config)
    cluster = json.loads(_system_config(node).get("object_spilling_config") or "{}")
    if "fsspec" not in (own.get("type"), cluster.get("type")) or _uris(own) == _uris(cluster):
        return
    raise ConfigError(
        f"cannot start this node with object spilling directory {_shown(own)}: the head of the "
        f"cluster spills to {_shown(cluster)}, and with a URI there is one for all nodes. Leave "
        "out --object-spilling-directory (and RAY_object_spilling_directory) here, or start the "
        "head with it."
    )


def _system_config(node: Any) -> dict[str, Any]:
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


def is_installed() -> bool:
    """Whether Ray, as this process has imported it or will, knows fsspill."""
    for name in _fsspill_startup.WRAPPERS:
        module = sys.modules.get(name)
        if module is not None:
            wrapped = getattr(module, "setup_external_storage", None) or module.Node
            marked = getattr(wrapped, "validate_external_storage", wrapped)
            return hasattr(marked, "__fsspill__")
    return any(isinstance(finder, _fsspill_startup.RayHook) for finder in sys.meta_path)


def install() -> None:
    """Make fsspill known to Ray where the hook of the installation is not active.

    Needed where Python does not run ``.pth`` files: under ``python -S``, or with a bare
    ``pip install --target`` directory on ``PYTHONPATH``. Call it before ``ray.init()`` starts a
    local cluster; the processes of that cluster inherit it through the environment.

    Raises
    ------
    RuntimeError
        Ray already runs in this process. Its raylet was started without the hook, and so would
        be every IO worker. The same is true of clusters that were started elsewhere: there the
        hook must be active on every node, and this cannot reach it.

    Notes
    -----
    Changes ``PYTHONPATH`` in the environment of this process, and removes ``FSSPILL_HOOK``.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized() and not is_installed():
        raise RuntimeError(
            "cannot make fsspill known to Ray: it already runs. Expected install() before "
            "ray.init(), in the process that starts the cluster."
        )
    _fsspill_startup.arm()
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    modules = (package, os.path.abspath(_fsspill_startup.__file__))
    needed = [os.path.join(package, "hook"), *map(os.path.dirname, modules)]
    paths = dict.fromkeys([*needed, *filter(None, inherited)])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.pop("FSSPILL_HOOK", None)
