"""Filesystems that are made again once what they read has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.config import conf

from fsspill import ExternalStorage, FsspillError, InMemoryObjectStore
from fsspill.storage.connection import connect
from fsspill.storage.instances import refresh_config
from fsspill.testing.s3_server import S3Server
from tests.timeouts import IMPATIENT, PATIENT, cleanup_limit

pytest.importorskip("s3fs")

NOWHERE = "http://127.0.0.1:9"


def check(uri: str, **parameters: Any) -> None:
    """Make a storage as `ray.init` does, and check it."""
    ExternalStorage(uri, **{"stall_timeout": PATIENT, **parameters}).check()


def check_fails(uri: str, **parameters: Any) -> str:
    """Return the message of the failure."""
    with cleanup_limit(IMPATIENT), pytest.raises(FsspillError) as caught:
        check(uri, stall_timeout=IMPATIENT, **parameters)
    return str(caught.value)


def test_a_corrected_endpoint_is_used(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same process, as in a notebook; so is one that was right before."""
    check("s3://bucket/corrected")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_ENDPOINT_URL", NOWHERE)
        check_fails("s3://bucket/corrected")
    check("s3://bucket/corrected")


@pytest.mark.parametrize("name", ["FSSPEC_S3_ENDPOINT_URL", "FSSPEC_S3"])
def test_a_corrected_variable_of_fsspec_is_used(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By itself, fsspec reads them at its import alone; also when one is removed again."""
    form = "{}" if name.endswith("URL") else '{{"endpoint_url": "{}"}}'
    with monkeypatch.context() as wrong:
        wrong.setenv(name, form.format(NOWHERE))
        check_fails("s3://bucket/variable")
        wrong.setenv(name, form.format(s3_server.endpoint_url))
        wrong.setenv("AWS_ENDPOINT_URL", NOWHERE)
        check("s3://bucket/variable")
    check("s3://bucket/variable")
    refresh_config()
    assert "endpoint_url" not in conf.get("s3", {})


def test_configuration_of_the_program_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the environment said is removed with it."""
    monkeypatch.setitem(conf, "s3", {"anon": True})
    with monkeypatch.context() as variables:
        variables.setenv("FSSPEC_S3_PROFILE", "one")
        refresh_config()
        assert conf["s3"] == {"anon": True, "profile": "one"}
    refresh_config()
    assert conf["s3"] == {"anon": True}


def test_a_corrected_profile_is_used(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile that does not exist, then the right name; then its file changes."""
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    config.write_text(f"[profile mine]\nendpoint_url = {NOWHERE}\n")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_PROFILE", "mien")
        assert "mien" in check_fails("s3://bucket/profile")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    check_fails("s3://bucket/profile")
    config.write_text(f"[profile mine]\nendpoint_url = {s3_server.endpoint_url}\n")
    check("s3://bucket/profile")


def test_obstore_reads_with_the_corrected_endpoint(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Library use without a check: what was spilled before reads after the correction too."""
    pytest.importorskip("obstore")
    store = InMemoryObjectStore()
    store.put(b"ref", bytes(1000))
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_ENDPOINT_URL", NOWHERE)
        storage = ExternalStorage("s3://bucket/x", object_store=store, stall_timeout=IMPATIENT)
        with cleanup_limit(IMPATIENT), pytest.raises(FsspillError):
            storage.spill_objects([b"ref"])
    storage = ExternalStorage(
        "s3://bucket/x", object_store=store, stall_timeout=PATIENT, engine="obstore", prefix="p"
    )
    urls = storage.spill_objects([b"ref"])
    store.delete(b"ref")
    assert storage.restore_spilled_objects([b"ref"], urls) == 1000


@pytest.mark.parametrize(
    ("uri", "name", "values"),
    [
        ("s3://bucket/x", "AWS_REGION", ("eu-west-1", "eu-west-2")),
        ("abfs://container/x", "AZURE_STORAGE_ACCOUNT_NAME", ("one", "two")),
        ("gs://bucket/x", "STORAGE_EMULATOR_HOST", ("http://one.test", "http://two.test")),
        ("s3://bucket/x", "HTTPS_PROXY", ("http://one.test", "http://two.test")),
    ],
)
def test_a_filesystem_is_shared_until_the_environment_changes(
    uri: str, name: str, values: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each environment; the one in use is not closed."""
    pytest.importorskip({"abfs": "adlfs", "gs": "gcsfs"}.get(uri.partition(":")[0], "s3fs"))
    anonymous: dict[str, dict[str, Any]] = {"abfs": {"anon": True}, "gs": {"token": "anon"}}
    options = anonymous.get(uri.partition(":")[0], {})
    monkeypatch.setenv(name, values[0])
    first = connect(uri, options).sync_fs
    assert connect(uri, options).sync_fs is first
    monkeypatch.setenv(name, values[1])
    second = connect(uri, options).sync_fs
    assert second is not first
    assert connect(uri, options).sync_fs is second


def test_a_cleared_cache_is_believed(s3_bucket: str) -> None:
    """Who clears fsspec's cache of instances gets new ones here too."""
    first = connect("s3://bucket/x", {}).sync_fs
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert connect("s3://bucket/x", {}).sync_fs is not first
