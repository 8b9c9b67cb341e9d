"""Credentials that change while a process runs for weeks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StoragePermissionError
from fsspill.cleanup import clean
from fsspill.ray import heartbeat
from fsspill.ray.heartbeat import Heartbeat
from fsspill.storage.layout import HEAD
from fsspill.storage.range_reader import S3Reader
from fsspill.storage.s3 import S3Client
from fsspill.testing.s3_server import S3Server
from tests.instances import forgotten
from tests.running import PROGRAMS, poll
from tests.users import EVERYTHING, Key, add_user

URI = "s3://bucket/x"
BEAT = "bucket/x/s/fsspill_heartbeats/head"


class StrictServer:
    """A server that accepts only keys that it gave out and that were not revoked."""

    def __init__(self, server: S3Server) -> None:
        botocore = pytest.importorskip("botocore.session")
        session = botocore.get_session()
        options = {"region_name": "us-east-1", "endpoint_url": server.endpoint_url}
        before = session.create_client(
            "iam", **options, aws_access_key_id="any", aws_secret_access_key="any"
        )
        self._users: dict[Key, str] = {}
        admin, self.old, self.new = (self._add(before, name) for name in ("admin", "old", "new"))
        self._admin = admin
        before.close()
        server.check_credentials()
        self._iam = session.create_client(
            "iam", **options, aws_access_key_id=admin.id, aws_secret_access_key=admin.secret
        )

    def _add(self, iam: Any, user: str) -> Key:
        key = add_user(iam, user, EVERYTHING)
        self._users[key] = user
        return key

    def filesystem(self) -> Any:
        """Return a filesystem with a key that is never revoked."""
        options = {"key": self._admin.id, "secret": self._admin.secret}
        return fsspec.filesystem("s3", **options, use_listings_cache=False)

    def revoke(self, key: Key) -> None:
        """Stop accepting a key."""
        self._iam.delete_access_key(UserName=self._users[key], AccessKeyId=key.id)

    def close(self) -> None:
        self._iam.close()


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the files of the AWS tools as the only source of credentials."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    with forgotten("s3"):
        yield


@pytest.fixture
def strict_server(
    checking_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StrictServer]:
    """Return the server with two users that may do everything."""
    checking_server.create_bucket("bucket")
    strict = StrictServer(checking_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", checking_server.endpoint_url)
    yield strict
    strict.close()


class Process:
    """A `credential_process` in the configuration of the AWS tools."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._key = directory / "key"
        self._log = directory / "asked"
        program = [sys.executable, str(PROGRAMS / "credential_process.py")]
        command = " ".join(f'"{part}"' for part in [*program, str(self._key), str(self._log)])
        config = directory / "config"
        config.write_text(f"[default]\ncredential_process = {command}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "none"))

    def give(self, key: Key) -> None:
        """Issue this key from now on."""
        self._key.write_text("\n".join(key))

    def asked(self) -> list[str]:
        """Return the id of the key of each answer so far."""
        return self._log.read_text().split() if self._log.exists() else []


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_keys: None) -> Process:
    return Process(tmp_path, monkeypatch)


def spill(storage: ExternalStorage, store: InMemoryObjectStore, ref: bytes) -> bytes:
    store.put(ref, ref * 100)
    [url] = storage.spill_objects([ref])
    store.delete(ref)
    return url


def restore(storage: ExternalStorage, store: InMemoryObjectStore, ref: bytes, url: bytes) -> None:
    storage.restore_spilled_objects([ref], [url])
    assert bytes(store.get(ref)) == ref * 100
    store.delete(ref)


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_expiring_credentials_are_renewed(
    s3_bucket: str, process: Process, store: InMemoryObjectStore, engine: str
) -> None:
    """Shortly before credentials expire, new ones are requested, in the same process."""
    process.give(Key("first", "secret"))
    storage = ExternalStorage(URI, object_store=store, engine=engine)
    url = spill(storage, store, b"one")
    asked = len(process.asked())
    assert asked >= 1
    process.give(Key("second", "secret"))

    def restores_and_asks(before: int) -> bool:
        restore(storage, store, b"one", url)
        return len(process.asked()) > before

    for _ in range(3):
        poll(partial(restores_and_asks, asked), "new credentials to be asked for")
        asked = len(process.asked())
    storage.delete_spilled_objects([url])
    assert storage.list_spilled_files() == []
    assert set(process.asked()) == {"first", "second"}
    assert process.asked()[-1] == "second"


@pytest.mark.parametrize("source", ["options", "client", "environment", "file", "process"])
def test_obstore_uses_the_credentials_of_the_filesystem(
    strict_server: StrictServer,
    store: InMemoryObjectStore,
    no_keys: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """Ranges are read with keys from options, environment, files or a credential process."""
    pytest.importorskip("obstore")
    monkeypatch.setattr(S3Reader, "read", None)
    options: dict[str, Any] = {}
    key, secret = strict_server.old
    if source == "options":
        options = {"key": key, "secret": secret}
    elif source == "client":
        options = {"client_kwargs": {"aws_access_key_id": key, "aws_secret_access_key": secret}}
    elif source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    elif source == "file":
        CredentialsFile(tmp_path, monkeypatch).write(strict_server.old)
    else:
        Process(tmp_path, monkeypatch).give(strict_server.old)
    storage = ExternalStorage(URI, object_store=store, storage_options=options)
    url = spill(storage, store, b"one")
    restore(storage, store, b"one", url)
    storage.destroy_external_storage()


def test_revoked_credentials_are_replaced_before_they_expire(
    strict_server: StrictServer, process: Process, store: InMemoryObjectStore
) -> None:
    """Credentials may be revoked once their successors are issued: no call fails."""
    process.give(strict_server.old)
    storage = ExternalStorage(URI, object_store=store)
    first = spill(storage, store, b"first")
    process.give(strict_server.new)
    strict_server.revoke(strict_server.old)
    restore(storage, store, b"first", first)
    second = spill(storage, store, b"second")
    restore(storage, store, b"second", second)
    storage.delete_spilled_objects([first, second])
    assert storage.list_spilled_files() == []


class CredentialsFile:
    """The file in which the AWS tools look for keys."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = directory / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(self._path))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(directory / "none"))

    def write(self, key: Key) -> None:
        """Replace the content by this key."""
        lines = ["[default]", f"aws_access_key_id = {key.id}"]
        lines.append(f"aws_secret_access_key = {key.secret}")
        self._path.write_text("\n".join(lines))


@pytest.fixture
def credentials_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_keys: None
) -> CredentialsFile:
    return CredentialsFile(tmp_path, monkeypatch)


@pytest.mark.parametrize("operation", ["restore", "spill", "delete", "list", "check"])
def test_rotated_credentials_file_is_read_again(
    strict_server: StrictServer,
    credentials_file: CredentialsFile,
    store: InMemoryObjectStore,
    operation: str,
) -> None:
    """The first call that is refused reads the file again and succeeds, as do later ones."""
    credentials_file.write(strict_server.old)
    storage = ExternalStorage(URI, object_store=store)
    url = spill(storage, store, b"one")
    credentials_file.write(strict_server.new)
    strict_server.revoke(strict_server.old)
    if operation == "restore":
        restore(storage, store, b"one", url)
    elif operation == "spill":
        storage.delete_spilled_objects([spill(storage, store, b"two")])
    elif operation == "delete":
        storage.delete_spilled_objects([url])
        assert storage.list_spilled_files() == []
        url = spill(storage, store, b"one")
    elif operation == "list":
        assert len(storage.list_spilled_files()) == 1
    else:
        storage.check()
    restore(storage, store, b"one", url)
    storage.delete_spilled_objects([url])
    assert storage.list_spilled_files() == []


def test_rotated_credentials_do_not_end_heartbeats(
    strict_server: StrictServer,
    credentials_file: CredentialsFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The heartbeat of a head goes on with the new ones, in the same process."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    credentials_file.write(strict_server.old)
    storage = ExternalStorage(URI, node_id=HEAD, session_name="s")
    beat = Heartbeat(storage, HEAD)
    beat.start()
    admin = strict_server.filesystem()
    poll(lambda: admin.find("bucket") == [BEAT], "a heartbeat")
    credentials_file.write(strict_server.new)
    strict_server.revoke(strict_server.old)
    for _ in range(2):
        admin.rm_file(BEAT)
        poll(lambda: admin.find("bucket"), "another heartbeat")
    beat.stop()
    storage.destroy_external_storage()
    assert admin.find("bucket") == []


def test_destroying_a_node_with_rotated_credentials_leaves_nothing(
    strict_server: StrictServer, credentials_file: CredentialsFile, store: InMemoryObjectStore
) -> None:
    """A driver may run for weeks before its shutdown is the first call that is refused."""
    credentials_file.write(strict_server.old)
    storage = ExternalStorage(URI, object_store=store)
    spill(storage, store, b"one")
    credentials_file.write(strict_server.new)
    strict_server.revoke(strict_server.old)
    storage.destroy_external_storage()
    assert strict_server.filesystem().find("bucket") == []


@pytest.mark.parametrize("step", ["listing", "look", "deletion"])
def test_credentials_may_be_rotated_while_clean_runs(
    strict_server: StrictServer,
    credentials_file: CredentialsFile,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Listing, second look and deletion go on with the new ones."""
    credentials_file.write(strict_server.old)
    fs = strict_server.filesystem()
    fs.pipe({BEAT: b"1", "bucket/x/s/ray_spilled_objects_n/f": b"data"})
    rotated: list[str] = []

    def rotate_before(target: type, name: str) -> None:
        original = getattr(target, name)

        async def call(*arguments: Any) -> Any:
            if not rotated:
                rotated.append(name)
                credentials_file.write(strict_server.new)
                strict_server.revoke(strict_server.old)
            return await original(*arguments)

        monkeypatch.setattr(target, name, call)

    names = {"listing": "find", "look": "list_directory", "deletion": "delete"}
    rotate_before(S3Client, names[step])
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    summary = clean("s3://bucket/x", older_than=0, stale_after=0)
    assert rotated == [names[step]]
    # The listing that was refused could not delete its file of one byte either.
    assert summary.files == (3 if step == "listing" else 2)
    assert (summary.sessions, summary.failures) == (["s"], {})
    assert [key for key in fs.find("bucket") if "check" not in key] == []


def test_late_credentials_end_the_refusals(
    strict_server: StrictServer,
    credentials_file: CredentialsFile,
    store: InMemoryObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls are refused until there are new credentials, then succeed without a restart."""
    monkeypatch.setattr("fsspill.storage.client_pool.RENEW_INTERVAL", 1)
    credentials_file.write(strict_server.old)
    storage = ExternalStorage(URI, object_store=store)
    url = spill(storage, store, b"one")
    strict_server.revoke(strict_server.old)
    for _ in range(2):
        with pytest.raises(StoragePermissionError, match="check the credentials"):
            storage.restore_spilled_objects([b"one"], [url])
    store.put(b"two", b"data")
    for _ in range(2):
        with pytest.raises(StoragePermissionError, match="check the credentials"):
            storage.spill_objects([b"two"])
    credentials_file.write(strict_server.new)
    poll(lambda: works(storage.spill_objects, [b"two"]), "the URI to be used again")
    poll(lambda: works(storage.restore_spilled_objects, [b"one"], [url]), "a restore to succeed")
    storage.destroy_external_storage()


def test_refusal_is_raised_if_there_are_no_new_credentials(
    strict_server: StrictServer,
    credentials_file: CredentialsFile,
    store: InMemoryObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A deletion never raises, and a restore raises the refusal."""
    credentials_file.write(strict_server.old)
    storage = ExternalStorage(URI, object_store=store)
    url = spill(storage, store, b"one")
    strict_server.revoke(strict_server.old)

    def find_none(*arguments: object, **options: object) -> None:
        raise StoragePermissionError("there are none")

    monkeypatch.setattr("fsspill.storage.client_pool.connect", find_none)
    storage.delete_spilled_objects([url])
    with pytest.raises(StoragePermissionError, match="check the credentials"):
        storage.restore_spilled_objects([b"one"], [url])


def works(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except StoragePermissionError:
        return False
    return True
