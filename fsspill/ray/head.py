"""The start of Ray's head: the configuration is checked, and the session gets a heartbeat."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from fsspill.config import make_node_settings, make_settings
from fsspill.environment import with_environment
from fsspill.errors import ConfigError
from fsspill.external_storage import ExternalStorage
from fsspill.log import get_logger
from fsspill.ray.abort_alarm import postpone_abort
from fsspill.ray.announcement import announce
from fsspill.ray.heartbeat import start_head_process
from fsspill.ray.internals import check_internals
from fsspill.ray.node_watch import start_node_watch
from fsspill.ray.secret_options import reject_secret_options
from fsspill.ray.setup import validation
from fsspill.settings import Settings
from fsspill.storage.uri import check_shared_by_processes

__all__ = ["on_head_started", "validate_external_storage"]

logger = get_logger(__name__)

_CAPACITY_THRESHOLD = "local_fs_capacity_threshold"
"""Setting of Ray: above this fraction of the disk of its temporary directory (0.95 by default) no
object is created, even where none would be spilled to that disk. Above 1 there is no disk."""

_SPILLING_THRESHOLD = "object_spilling_threshold"
"""Setting of Ray: above this fraction of the object store (0.8 by default) objects are spilled."""

_SPILLING_SIZE = "min_spilling_size"
"""Setting of Ray: while a node spills, it begins no other spill of fewer bytes (100 MiB by
default)."""


def validate_external_storage(node: Any, validate: Callable[[Any], Any]) -> None:
    """Check the configuration on the head, before Ray starts anything.

    Parameters
    ----------
    node : ray._private.node.Node
        The head.
    validate : callable
        Ray's own method, which also distributes the configuration.

    Raises
    ------
    FsspillError
        The configuration cannot work; the message says why, where, and what to do.

    Notes
    -----
    Four requests per URI, which write, read, list and delete two bytes.
    """
    if not _spills(node):
        return
    check_internals(node)
    config = with_environment(json.loads(node._object_spilling_config), "cluster")
    storage = _check(config, node._session_name)
    node._object_spilling_config = json.dumps(_for_raylet(config, storage))
    with validation():
        validate(node)
    configs = (node._config, node._ray_params._system_config)  # one object, or two
    settings = _system_config(storage, {**configs[0], **configs[1]})
    for system_config in configs:
        system_config.update(settings)


def _spills(node: Any) -> bool:
    enabled: bool = node._config.get("automatic_object_spilling_enabled", True)
    return enabled


def _check(config: Mapping[str, Any], session_name: str) -> ExternalStorage:
    """Return the storage of a configuration that can work for a whole cluster."""
    settings = make_node_settings(config)
    storage = ExternalStorage(settings, session_name=session_name)
    if not settings.allow_secrets:
        for uri in storage.uris:
            reject_secret_options(uri, settings.storage_options or {})
    for uri in storage.uris:
        check_shared_by_processes(uri)
    storage.check()
    return storage


def _for_raylet(config: Mapping[str, Any], storage: ExternalStorage) -> dict[str, Any]:
    """Add the directories on whose disk the raylet must watch the free space."""
    if not storage.node_local:
        return dict(config)
    directories = [uri.partition("://")[2] for uri in storage.uris]
    return {**config, "params": {**config["params"], "directory_path": directories}}


def _system_config(storage: ExternalStorage, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of Ray whose defaults assume that objects are spilled to a local disk."""
    # Ray derives it from its own type "filesystem". It makes a raylet ask the one that spilled for
    # the bytes, which is what files on another node's disk need.
    settings: dict[str, Any] = {"is_external_storage_type_fs": storage.node_local}
    if not storage.node_local and not _is_set(_CAPACITY_THRESHOLD, given):
        settings[_CAPACITY_THRESHOLD] = 1.0
    return settings | _durable_config(storage, given)


def _durable_config(storage: ExternalStorage, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of Ray with which each object is spilled once it is created."""
    if not storage.settings.durable:
        return {}
    if _is_set(_SPILLING_THRESHOLD, given):
        raise ConfigError(
            f"cannot use durable=True with Ray's {_SPILLING_THRESHOLD}: expected only one of both, "
            "because durable sets it to 0, on every node. Leave one out."
        )
    logger.warning(
        "durable: each object that Ray does not inline is stored at %s once it is created, and "
        "survives its node; expect the requests and the traffic of all of them.",
        ", ".join(storage.uris),
    )
    # What fills no file waits for the one that is being written, and shares the next.
    size = {} if _is_set(_SPILLING_SIZE, given) else {_SPILLING_SIZE: storage.settings.file_size}
    return {_SPILLING_THRESHOLD: 0.0, **size}


def _is_set(name: str, system_config: Mapping[str, Any]) -> bool:
    return name in system_config or f"RAY_{name}" in os.environ


def on_head_started(node: Any) -> None:
    """Start the heartbeat of the session and the watch over its nodes, once the head has started.

    Parameters
    ----------
    node : ray._private.node.Node
        The head.

    Notes
    -----
    Starts two processes that live as long as Ray's own head process (the GCS server). One writes a
    small file under each URI every 5 minutes. Without it ``fsspill clean`` could not tell a live
    session from a dead one. The other is `fsspill.ray.node_watch`.
    """
    if not _spills(node):
        return
    # Runs before what Ray has registered, the shutdown of the driver: the last one is the first.
    atexit.unregister(postpone_abort)
    atexit.register(postpone_abort)
    try:
        _start_heartbeat(node)
    except Exception as error:
        # No reason to stop Ray: clean-up leaves sessions alone that have no heartbeat.
        logger.warning(
            "heartbeat not started: fsspill clean will leave this session alone: %s", error
        )
    try:
        announce(node)
        start_node_watch(_settings(node), node.gcs_address, *_process(node, "nodes"))
    except Exception as error:
        logger.warning("drivers are not told of nodes without fsspill: %s", error)


def _start_heartbeat(node: Any) -> None:
    settings = _settings(node)
    if settings.node_local:
        return  # files on a node's own disk belong to no session
    start_head_process(settings, node._session_name, *_process(node, "heartbeat"))


def _settings(node: Any) -> Settings:
    return make_settings(json.loads(node._object_spilling_config))


def _process(node: Any, name: str) -> tuple[int, str]:
    """Return Ray's head process, and the log of a process that lives as long."""
    pid = node.all_processes["gcs_server"][0].process.pid
    return pid, os.path.join(node.get_logs_dir_path(), f"fsspill_{name}.log")
