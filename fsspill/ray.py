"""The side that faces Ray; the only module that imports it.

Ray calls in through the functions that `fsspill._startup` wraps:

* on the head, before anything is started, `validate_external_storage`: it checks the URI and
  raises what is wrong with it;
* on a worker node that names a spill directory of its own, `check_worker_node`;
* in every IO worker, and in the driver at shutdown, `setup_external_storage`: it makes no request
  and never raises, because a raise there leaves ``ray.put`` blocked for ever.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import _fsspill_startup

from fsspill.config import make_external_storage
from fsspill.errors import ConfigError
from fsspill.external_storage import ExternalStorage, NullStorage
from fsspill.filesystem import protocol_of
from fsspill.object_store import FileLike

__all__ = [
    "CoreWorkerStore",
    "FailedStorage",
    "check_worker_node",
    "install",
    "is_installed",
    "setup_external_storage",
    "validate_external_storage",
]

logger = logging.getLogger(__name__)

_GRACE_PERIOD = 10.0
"""Seconds to wait for the core worker; a request may arrive just before Python knows of it.
Ray's own classes wait 1 s, which a loaded machine was seen to exceed."""

_PER_PROCESS = frozenset({"memory"})


class CoreWorkerStore:
    """Ray's object store on this node, through the core worker of this process."""

    def __init__(self) -> None:
        self._core_worker: Any = None

    def get_if_local(self, object_refs: Sequence[Any], /) -> Sequence[tuple[Any, ...]]:
        """Return ``(buffer or None, metadata, ...)`` for each ref, without copying."""
        objects: Sequence[tuple[Any, ...]] = self._connected().get_if_local(object_refs)
        return objects

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        """Create the object in shared memory and fill it.

        Notes
        -----
        Ends the process if filling it fails. Ray would keep the object created but never
        sealed, report every later restore of it as done, and ``ray.get`` would wait for ever;
        only the end of the process that created it frees it, and then Ray tries again.
        """
        watched = _Watched(file_like)
        try:
            self._connected().put_file_like_object(
                metadata, data_size, watched, object_ref, owner_address
            )
        except BaseException:
            if watched.failed:
                logger.exception("ending this IO worker so that Ray restores the object again")
                logging.shutdown()
                os._exit(1)
            raise

    def _connected(self) -> Any:
        if self._core_worker is None:
            import ray

            worker = ray._private.worker.global_worker
            give_up = time.monotonic() + _GRACE_PERIOD
            while not worker.connected:
                if time.monotonic() > give_up:
                    raise RuntimeError(
                        "cannot reach the object store: expected this process to be connected to "
                        f"Ray within {_GRACE_PERIOD} s."
                    )
                time.sleep(0.001)
            self._core_worker = worker.core_worker
        return self._core_worker


class _Watched:
    """Remembers whether reading failed, which only happens once the object was created."""

    def __init__(self, file_like: FileLike) -> None:
        self._file_like = file_like
        self.failed = False

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._file_like.readinto(buffer)
        except BaseException:
            self.failed = True
            raise


class FailedStorage(NullStorage):
    """Storage of a process that could not set it up: every call raises the reason at once.

    Destroying it does nothing: a process that spilled nothing has nothing to remove.
    """

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Raise the reason."""
        raise self._reason.with_traceback(None)

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Raise the reason."""
        raise self._reason.with_traceback(None)

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Raise the reason."""
        raise self._reason.with_traceback(None)

    def destroy_external_storage(self) -> None:
        """Log the reason."""
        logger.warning("nothing to remove, external storage was never set up: %s", self._reason)


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
    ExternalStorage or FailedStorage
        Never raises, makes no request.
    """
    if _validating:
        return _ValidatedStorage()
    try:
        return make_external_storage(
            config, node_id=node_id, session_name=session_name, object_store=CoreWorkerStore()
        )
    except Exception as error:
        logger.exception("cannot set up external storage on node %s", node_id)
        return FailedStorage(error)


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
    storage = make_external_storage(config, session_name=node._session_name)
    if not isinstance(storage, ExternalStorage):
        raise ConfigError("cannot set up external storage of an empty configuration")
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
    package = os.path.dirname(os.path.abspath(__file__))
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    modules = (package, os.path.abspath(_fsspill_startup.__file__))
    needed = [os.path.join(package, "_site"), *map(os.path.dirname, modules)]
    paths = dict.fromkeys([*needed, *filter(None, inherited)])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.pop("FSSPILL_HOOK", None)
