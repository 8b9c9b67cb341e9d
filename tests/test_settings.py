"""The parameters: defaults, checks, documentation."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

import fsspill
from fsspill import ConfigError, ExternalStorage, Settings
from fsspill.format.planning import LARGEST_RANGE, SMALLEST_RANGE
from fsspill.settings import MIB, default_text

README = (Path(__file__).parents[1] / "README.md").read_text()

DEFAULTS: Mapping[str, Any] = {
    "storage_options": None,
    "prefix": "",
    "shared": False,
    "file_size": 8 * MIB,
    "range_size": None,
    "max_requests_in_flight": 64,
    "max_bytes_in_flight": 128 * MIB,
    "stall_timeout": 30.0,
    "digest": "xxh3_128",
    "compression": None,
    "engine": "auto",
    "policy": "round_robin",
    "min_free_bytes": 0,
    "max_bytes": None,
    "cache_dir": None,
    "cache_max_bytes": None,
    "lost_after": 1800.0,
    "durable": False,
    "allow_secrets": False,
}


def test_defaults() -> None:
    """A URI is enough; all other parameters have these defaults."""
    settings = Settings("memory://x")
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert [field.name for field in fields(Settings)] == ["uri", *DEFAULTS]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("uri", None, "cannot spill to a NoneType: expected a URI or a list of URIs"),
        ("uri", [], "cannot spill to a list: expected a URI or a list of URIs"),
        ("uri", {"a": 1}, "cannot spill to a dict: expected a URI or a list of URIs"),
        ("uri", [3], "expected a URI with a protocol"),
        ("uri", "/plain/path", "expected a URI with a protocol"),
        ("uri", ["memory://a", "memory://a/"], "memory://a, memory://a: expected each URI once"),
        ("storage_options", [1], "storage_options of type list: expected a mapping"),
        ("prefix", 3, "prefix=3: expected a string"),
        ("prefix", None, "prefix=None: expected a string"),
        ("prefix", "a/../b", r"prefix='\.\.': expected letters, digits"),
        ("shared", "yes", "shared='yes': expected True or False"),
        ("shared", 1, "shared=1: expected True or False"),
        ("file_size", "1", "file_size='1': expected an integer"),
        ("cache_dir", "relative/path", "cache_dir='relative/path': expected the absolute path"),
        ("cache_dir", "~/copies", "cache_dir='~/copies': expected the absolute path"),
        ("cache_dir", "s3://bucket", "cache_dir='s3://bucket': expected the absolute path"),
        ("cache_dir", "", "cache_dir='': expected the absolute path"),
        ("cache_dir", 3, "cache_dir=3: expected the absolute path"),
        ("cache_dir", "/mnt/disk", "cache_dir='/mnt/disk' without cache_max_bytes: expected both"),
        ("cache_max_bytes", 2**30, "cache_max_bytes=1073741824 without cache_dir: expected both"),
        ("cache_max_bytes", 0, "cache_max_bytes=0: expected 1 or more"),
        ("cache_max_bytes", "1 GiB", "cache_max_bytes='1 GiB': expected an integer"),
        ("file_size", 1.5, "file_size=1.5: expected an integer"),
        ("file_size", None, "file_size=None: expected an integer"),
        ("file_size", 0, "file_size=0: expected 1 or more"),
        ("range_size", True, "range_size=True: expected an integer"),
        ("range_size", 0, "range_size=0: expected 1 or more"),
        ("max_requests_in_flight", 0, "max_requests_in_flight=0: expected 1 or more"),
        ("max_requests_in_flight", [1], r"max_requests_in_flight=\[1\]: expected an integer"),
        ("max_bytes_in_flight", 1, "max_bytes_in_flight=1: expected at least 16777216 bytes"),
        ("max_bytes_in_flight", 2.0**30, "max_bytes_in_flight=1073741824.0: expected an integer"),
        ("stall_timeout", 0, "stall_timeout=0: expected 1 or more"),
        ("stall_timeout", "1", "stall_timeout='1': expected a number"),
        ("stall_timeout", float("nan"), "stall_timeout=nan: expected 1 or more"),
        ("digest", "md5", "digest='md5': expected one of xxh3_128, sha256"),
        ("digest", ["sha256"], r"digest=\['sha256'\]: expected one of xxh3_128, sha256"),
        ("compression", "gzip", "compression='gzip': expected one of lz4, zstd, or None"),
        ("compression", {}, "compression={}: expected one of lz4, zstd, or None"),
        ("engine", "rust", "engine='rust': expected one of auto, fsspec, obstore"),
        ("engine", None, "engine=None: expected one of auto, fsspec, obstore"),
        ("policy", "nonsense", "policy='nonsense': expected one of round_robin, in_order"),
        ("policy", None, "policy=None: expected one of round_robin, in_order"),
        ("min_free_bytes", -1, "min_free_bytes=-1: expected 0 or more"),
        ("min_free_bytes", 1.5, "min_free_bytes=1.5: expected an integer"),
        ("max_bytes", 0, "max_bytes=0: expected 1 or more"),
        ("max_bytes", "1", "max_bytes='1': expected an integer"),
        ("lost_after", -1, "lost_after=-1: expected 0 or more"),
        ("lost_after", None, "lost_after=None: expected a number"),
        ("durable", 1, "durable=1: expected True or False"),
        ("allow_secrets", "no", "allow_secrets='no': expected True or False"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any, message: str) -> None:
    """The error names the parameter, the value and what was expected, also through storage."""
    parameters = {"uri": "memory://x", name: value}
    with pytest.raises(ConfigError, match=message):
        Settings(**parameters)
    with pytest.raises(ConfigError, match=message):
        ExternalStorage(**parameters)


@pytest.mark.parametrize(
    ("uri", "parameters", "message"),
    [
        (
            ["file:///a", "memory://a"],
            {},
            "cannot spill to file:///a, memory://a: expected only file:// URIs or none",
        ),
        ("file:///a", {"durable": True}, "durable=True with file:///a: expected storage that out"),
        ("memory://a", {"shared": True}, "shared=True with memory://a: expected a file:// URI"),
        (
            "memory://a",
            {"min_free_bytes": 1},
            "min_free_bytes with memory://a: expected a file:// URI.*max_bytes limits",
        ),
        (
            "file:///a",
            {"compression": "zstd", "prefix": "b"},
            "compression='zstd' with file:///a/b: expected none, because Ray's raylet reads the "
            "files of a node's own disk itself",
        ),
        (
            "memory://a",
            {"file_size": 2**40},
            "file_size=1099511627776: expected no more than max_bytes_in_flight=134217728",
        ),
        (
            "memory://a",
            {"range_size": 17 * MIB, "max_bytes_in_flight": 16 * MIB},
            "range_size=17825792: expected no more than max_bytes_in_flight=16777216",
        ),
        (
            "file:///a",
            {"storage_options": {"x": "value"}},
            r"storage_options \(x\) with file:///a: expected none, local directories take no",
        ),
        ("memory://a", {"engine": "obstore"}, "engine='obstore' with memory://a: expected one of"),
        (["s3://a", "memory://a"], {"engine": "obstore"}, "engine='obstore' with memory://a"),
    ],
)
def test_values_that_exclude_each_other_are_refused(
    uri: Any, parameters: dict[str, Any], message: str
) -> None:
    """Checks that need several parameters are made too; no value of an option is shown."""
    with pytest.raises(ConfigError, match=message):
        Settings(uri, **parameters)


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    """The error lists the known names, and the most similar one."""
    with pytest.raises(ConfigError, match=r"unknown parameter 'file_sise'.*'uri', 'stor") as e:
        ExternalStorage("memory://x", file_sise=1)
    assert str(e.value).endswith("Did you mean 'file_size'?")
    with pytest.raises(ConfigError) as e:
        Settings.of("memory://x", qqq=1)
    assert "Did you mean" not in str(e.value)


def test_no_option_is_required_to_be_none() -> None:
    """None of optional parameters means that they are left out."""
    none: dict[str, Any] = {name: None for name, default in DEFAULTS.items() if default is None}
    assert Settings("memory://x", **none) == Settings("memory://x")


def test_values_that_mean_the_same_are_equal() -> None:
    """A URI equals a list of it; slashes at the end of URIs and around a prefix do not matter."""
    settings = Settings("s3://b/x", prefix="y/z")
    assert Settings(["s3://b/x/"], prefix="/y//z/") == settings
    assert hash(Settings(["s3://b/x/"], prefix="/y//z/")) == hash(settings)
    assert settings.uris == ["s3://b/x/y/z"]
    assert Settings("s3://b/x", prefix="y", file_size=1) != settings


def test_settings_do_not_change_with_their_arguments() -> None:
    """Lists and mappings are copied, and fields are frozen."""
    uris, options = ["s3://a"], {"anon": True}
    settings = Settings(uris, storage_options=options)
    uris.append("s3://b")
    options["anon"] = False
    assert settings.uris == ["s3://a"]
    assert settings.storage_options == {"anon": True}
    with pytest.raises(AttributeError):
        settings.file_size = 3  # type: ignore[misc]


def test_replaced_values_are_checked() -> None:
    """`dataclasses.replace` and overriding keep all other values, and check."""
    settings = Settings("s3://b", prefix="x", max_requests_in_flight=5)
    with pytest.raises(ConfigError, match="expected a number"):
        replace(settings, stall_timeout="1")  # type: ignore[arg-type]
    changed = Settings("s3://b", prefix="x", max_requests_in_flight=5, file_size=1)
    assert Settings.of(settings, file_size=1) == changed
    assert ExternalStorage(settings, file_size=1).settings == changed
    assert ExternalStorage(settings).settings == settings


def test_settings_are_pickled() -> None:
    """They reach another process with all values, secrets included."""
    settings = Settings("s3://b", storage_options={"secret": "hunter2"}, file_size=3)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.storage_options == {"secret": "hunter2"}


def test_repr_shows_no_secret() -> None:
    """It shows what differs from the defaults; secrets are redacted at any depth and length."""
    nested = {"endpoint_url": "http://h", "aws_session_token": "hunter2"}
    options = {"secret": "abc", "anon": False, "client_kwargs": nested, "l": [{"password": "x1y"}]}
    settings = Settings(["s3://a", "gs://b"], storage_options=options, file_size=3)
    assert repr(settings) == (
        "Settings(uri=('s3://a', 'gs://b'), storage_options={'secret': '***', 'anon': False, "
        "'client_kwargs': {'endpoint_url': 'http://h', 'aws_session_token': '***'}, "
        "'l': [{'password': '***'}]}, file_size=3)"
    )


@pytest.mark.parametrize(
    ("uri", "shared", "local", "node_local"),
    [
        ("file:///a", False, True, True),
        ("file:///a", True, True, False),
        ("s3://a", False, False, False),
    ],
)
def test_only_files_on_a_disk_that_is_not_shared_are_node_local(
    uri: str, shared: bool, local: bool, node_local: bool
) -> None:
    """Any node can read a bucket or a shared directory."""
    settings = Settings(uri, shared=shared)
    assert (settings.local, settings.node_local) == (local, node_local)


def test_scopes() -> None:
    """All nodes must agree on where files are, and on what the head alone decides."""
    scopes = {field.name: field.metadata["scope"] for field in fields(Settings)}
    cluster = {name for name, scope in scopes.items() if scope == "cluster"}
    assert cluster == {"uri", "storage_options", "prefix", "shared", "durable", "allow_secrets"}
    assert set(scopes.values()) == {"cluster", "node"}


def test_every_parameter_is_documented() -> None:
    """The docstring of `Settings` has an entry for each, with default and scope."""
    documented = " ".join(str(Settings.__doc__).split())
    for field in fields(Settings):
        default = default_text(field)
        default = f", default {default}" if default else ""
        scope = field.metadata["scope"]
        entry = f"{field.name} : {field.type}{default}, per {scope} {field.metadata['doc']}"
        assert entry in documented


def test_every_default_passes_its_check() -> None:
    """A default is a value that the parameter accepts, and stays as it is."""
    for field in fields(Settings):
        if field.default is not MISSING:
            assert field.metadata["check"](field.name, field.default) == field.default


def parameter_table() -> str:
    """Return the table of parameters of README."""
    rows = [
        " ".join(f"| `{field.name}` | {default_text(field)} | {field.metadata['doc']} |".split())
        for field in fields(Settings)
    ]
    return "\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows, ""])


def test_readme_has_the_table_of_parameters() -> None:
    """The table is complete, with the defaults and the documentation of the code."""
    assert parameter_table() in README, f"Put this into README:\n{parameter_table()}"


def test_the_table_shows_sizes_in_mebibytes() -> None:
    """Defaults are shown in the units in which one thinks of them."""
    shown = {field.name: default_text(field) for field in fields(Settings)}
    assert shown["stall_timeout"] == "30"
    assert shown["policy"] == "`round_robin`"
    assert shown["min_free_bytes"] == "0"
    assert shown["lost_after"] == "1800"
    assert shown["file_size"] == "8 MiB"
    assert shown["range_size"] == f"{SMALLEST_RANGE // MIB} to {LARGEST_RANGE // MIB} MiB"
    assert shown["max_requests_in_flight"] == "64"
    assert shown["max_bytes_in_flight"] == "128 MiB"
    assert shown["storage_options"] == "none"
    assert shown["shared"] == "`false`"


def test_settings_are_public() -> None:
    """They are imported from the package."""
    assert fsspill.Settings is Settings


def test_a_path_of_copies_is_kept_normalised() -> None:
    """All processes of a node must have the same name for it."""
    settings = Settings("s3://b", cache_dir="/mnt//disk/", cache_max_bytes=2**30)
    assert settings.cache_dir == "/mnt/disk"


def test_copies_of_less_than_a_file_are_refused() -> None:
    """Not even one would fit."""
    with pytest.raises(ConfigError, match=f"at least file_size={8 * MIB}, or not even one"):
        Settings("s3://b", cache_dir="/mnt/disk", cache_max_bytes=8 * MIB - 1)


@pytest.mark.parametrize("shared", [True, False])
def test_copies_of_local_files_are_refused(shared: bool) -> None:
    """They would be copies of files that are in a directory of the node already."""
    with pytest.raises(ConfigError, match="in a directory of the node already"):
        Settings("file:///x", shared=shared, cache_dir="/mnt/disk", cache_max_bytes=2**30)
