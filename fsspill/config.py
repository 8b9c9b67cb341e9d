"""Set-up of the storage of this process from a configuration, as Ray does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fsspill.environment import with_environment
from fsspill.errors import ConfigError
from fsspill.external_storage import ExternalStorage
from fsspill.interface import NullStorage, Storage
from fsspill.log import get_logger
from fsspill.object_store import ObjectStore
from fsspill.ray_config import PARAMETERS_OF_TYPE, RAY_TEST_TYPES
from fsspill.settings import COPY_PARAMETERS, Settings, check_names, quote_names

__all__ = [
    "delete_spilled_objects",
    "make_external_storage",
    "make_io_worker_settings",
    "make_node_settings",
    "make_settings",
    "reset_external_storage",
    "restore_spilled_objects",
    "setup_external_storage",
    "spill_objects",
]

logger = get_logger(__name__)

_external_storage: Storage = NullStorage()


def setup_external_storage(
    config: Mapping[str, Any] | None,
    node_id: str | None = None,
    session_name: str | None = None,
    *,
    object_store: ObjectStore | None = None,
) -> Storage:
    """Set up the storage that the functions of this module act on.

    Parameters
    ----------
    config : mapping or None
        ``{"type": ..., "params": {...}}``. Type ``fsspec`` takes the parameters of `Settings`;
        ``filesystem`` and ``smart_open`` take those of Ray's own classes. A falsy configuration
        gives a `NullStorage`.
    node_id, session_name : str, optional
        Components of the path of every file; made up if not given.
    object_store : ObjectStore, optional
        A new `InMemoryObjectStore` if not given.

    Returns
    -------
    ExternalStorage or NullStorage
        The new storage.

    Raises
    ------
    ConfigError
        The configuration cannot work; the storage that was set up before stays.

    Notes
    -----
    Makes no request: `ExternalStorage.check` does.
    """
    global _external_storage
    _external_storage = make_external_storage(
        config, node_id=node_id, session_name=session_name, object_store=object_store
    )
    return _external_storage


def reset_external_storage() -> None:
    """Replace the storage that was set up by a `NullStorage`."""
    global _external_storage
    _external_storage = NullStorage()


def spill_objects(
    object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
) -> list[bytes]:
    """Spill with the storage that was set up; see `ExternalStorage.spill_objects`."""
    return _external_storage.spill_objects(object_refs, owner_addresses)


def restore_spilled_objects(
    object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
) -> int:
    """Restore with the storage that was set up; see `ExternalStorage.restore_spilled_objects`."""
    return _external_storage.restore_spilled_objects(object_refs, url_with_offset_list)


def delete_spilled_objects(urls: Sequence[bytes | str]) -> None:
    """Delete with the storage that was set up; see `ExternalStorage.delete_spilled_objects`."""
    _external_storage.delete_spilled_objects(urls)


def make_external_storage(
    config: Any,
    *,
    node_id: str | None = None,
    session_name: str | None = None,
    object_store: ObjectStore | None = None,
) -> Storage:
    """Return the storage that a configuration describes; see `setup_external_storage`."""
    if not config:
        return NullStorage()
    return ExternalStorage(
        make_settings(config),
        node_id=node_id,
        session_name=session_name,
        object_store=object_store,
    )


def make_settings(config: Any) -> Settings:
    """Return the settings that a configuration describes.

    Raises
    ------
    ConfigError
        It is not a configuration, or has parameters that are unknown or cannot work.
    """
    if isinstance(config, Mapping):
        check_names(config, ("type", "params"), "external storage")
    params = config.get("params") if isinstance(config, Mapping) else None
    if not isinstance(params, Mapping):
        raise ConfigError(
            "cannot set up external storage: expected a mapping such as "
            '{"type": "fsspec", "params": {"uri": "s3://bucket/prefix"}}, found '
            f"{_describe(config)}."
        )
    return Settings.of(**_parameters(config.get("type"), params))


def make_node_settings(config: Any) -> Settings:
    """Return the settings that a configuration and the environment of this node describe.

    Raises
    ------
    ConfigError
        As `make_settings`; also for a variable that cannot work.
    """
    return make_settings(with_environment(config, "node"))


def make_io_worker_settings(config: Any) -> Settings:
    """Return the settings of this node, without a local copy where that alone cannot work.

    Raises
    ------
    ConfigError
        As `make_node_settings`, for any other parameter.
    """
    try:
        return make_node_settings(config)
    except ConfigError as error:
        without = with_environment(config, "node", without=COPY_PARAMETERS)
        settings = make_settings(without)
        logger.warning("this process keeps no local copies: %s", error)
        return settings


def _parameters(kind: object, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of `Settings` that those of a type stand for."""
    if isinstance(kind, str) and kind in PARAMETERS_OF_TYPE:
        return PARAMETERS_OF_TYPE[kind](params)
    instead = RAY_TEST_TYPES.get(str(kind), "type 'fsspec' with params.uri")
    raise ConfigError(
        f"cannot set up external storage of type {kind!r}: expected one of "
        f"{quote_names(PARAMETERS_OF_TYPE)}. Use {instead}."
    )


def _describe(config: object) -> str:
    """Describe a configuration without its values, which may be secret."""
    if not isinstance(config, Mapping):
        return f"a {type(config).__name__}"
    params = config.get("params")
    return f"type {config.get('type')!r} with params of type {type(params).__name__}"
