"""Any configuration: a storage, or a ConfigError that shows no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import fsspill
from fsspill import ConfigError, ExternalStorage, NullStorage
from fsspill.config import make_external_storage
from tests.fuzzing import examples_of, fuzz, near_to

plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
json_values = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
# Values that occur nowhere else, so that they are found wherever they are shown.
marked = st.integers(0, 99).map(lambda number: f"m4rked-v4lue-{number:02d}")
marked_values = st.recursive(
    marked,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
option_names = st.sampled_from(
    [
        "key",
        "secret",
        "token",
        "client_kwargs",
        "config_kwargs",
        "anon",
        "account_key",
        "auto_mkdir",
    ]
)
storage_options = st.dictionaries(option_names | st.text(max_size=4), marked_values, max_size=3)
URIS = """
s3://b/x s3://b s3://b/ s3:// s3:///x s3a://b//x s3://[b s3://b]/x s3://b:x/y s3://b@:1/y
s3://b/../x s3://b/%2e%2e/x gs://b abfs://c/x sftp://u@h/x http://h/x file:///a file:///a/../b
file://a local:///a memory://a memory:// memory://\ud800 simplecache::s3://b zip://a.zip
nonsense://b /a
"""
uris = st.sampled_from(URIS.split())
parameters: dict[str, st.SearchStrategy[Any]] = {
    "uri": uris | st.lists(uris | json_values, max_size=3) | near_to("s3://bucket/prefix"),
    "storage_options": storage_options | marked_values,
    "prefix": st.sampled_from(["", "a", "a/b", "/", "..", "a//b", "a?", "é"]),
    "shared": st.booleans(),
    "file_size": st.integers(-1, 2**28),
    "range_size": st.integers(-1, 2**28),
    "max_requests_in_flight": st.integers(-1, 100),
    "max_bytes_in_flight": st.integers(-1, 2**30),
    "stall_timeout": st.floats() | st.integers(-1, 100),
    "digest": st.sampled_from(["xxh3_128", "sha256", "md5"]),
    "compression": st.sampled_from([None, "lz4", "zstd", "gzip"]),
    "policy": st.sampled_from(["round_robin", "in_order", "x"]),
    "min_free_bytes": st.integers(-1, 100),
    "max_bytes": st.none() | st.integers(-1, 100),
    "directory_path": st.sampled_from(["/a", "a", "", ["/a", "b"]]),
    "buffer_size": st.integers(-1, 100),
    "override_transport_params": st.dictionaries(
        st.sampled_from(["min_part_size", "resource_kwargs", "client_kwargs", "defer_seek", "x"]),
        json_values | st.fixed_dictionaries({"S3.Client": json_values}),
    ),
}
one_wrong = st.builds(
    lambda uri, name, value: {"uri": uri, name: value},
    st.sampled_from(["s3://b/x", "memory://a", "file:///a"]),
    st.sampled_from([*parameters]),
    json_values,
)
params = (
    one_wrong
    | st.fixed_dictionaries({}, optional=parameters)
    | st.fixed_dictionaries(
        {}, optional={name: values | json_values for name, values in parameters.items()}
    )
)
kinds = st.sampled_from(["fsspec", "fsspec", "fsspec", "filesystem", "smart_open", "unstable_fs"])
configs = (
    json_values
    | st.fixed_dictionaries({"type": kinds | json_values, "params": params})
    | st.fixed_dictionaries(
        {"type": kinds, "params": params | json_values}, optional={"extra": marked}
    )
)


@fuzz
def test_any_configuration_is_accepted_or_refused_without_secrets(examples: int) -> None:
    """It is a storage, or a ConfigError that shows no value of an option."""

    @examples_of(examples)
    @given(config=configs)
    def check(config: Any) -> None:
        try:
            storage = fsspill.setup_external_storage(config)
        except ConfigError as error:
            message = str(error)
        else:
            message = ""
            assert isinstance(storage, ExternalStorage if config else NullStorage)
        assert [value for value in option_values(config) if value in message] == []

    try:
        check()
    finally:
        fsspill.reset_external_storage()


@fuzz
def test_configurations_survive_json(examples: int) -> None:
    """Ray passes the configuration on as JSON, which does not change the outcome."""

    @examples_of(examples)
    @given(config=configs)
    def check(config: Any) -> None:
        assert outcome(json.loads(json.dumps(config))) == outcome(config)

    check()


def outcome(config: Any) -> Any:
    try:
        storage = make_external_storage(config, node_id="n", session_name="s")
    except ConfigError as error:
        return str(error)
    return storage.uris if isinstance(storage, ExternalStorage) else None


def option_values(config: Any) -> list[str]:
    """Return the marked values among the storage options of a configuration."""
    params = config.get("params") if isinstance(config, Mapping) else None
    options = params.get("storage_options") if isinstance(params, Mapping) else None
    return list(leaves(options))


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("m4rked"):
        yield value
    elif isinstance(value, (list, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(inner)
