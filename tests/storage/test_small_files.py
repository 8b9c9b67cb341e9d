"""Files of a few bytes: checks and heartbeats."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ConfigError, StorageNotFoundError, StoragePermissionError
from fsspill.errors import FsspillError
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import SpillLocation
from fsspill.storage.small_files import check_location, write_heartbeats
from fsspill.testing.filesystems import FaultyFileSystem, register
from fsspill.testing.s3_server import S3Server
from tests.at_rest import files, keys
from tests.faults.dialects import (
    Fixed,
    IgnoresRanges,
    ShortPages,
    StaleListings,
    answer_with_code,
    is_listing,
)
from tests.faults.fault_proxy import Dialect, FaultProxy
from tests.other_users import OTHER, fill, needs_root, public_directory, run_as, small_disk
from tests.timeouts import PATIENT

FAULTY = {"target_protocol": "memory"}


@pytest.fixture
def faulty() -> Iterator[FaultyFileSystem]:
    register()
    yield fsspec.filesystem("faulty", **FAULTY)
    FaultyFileSystem.clear_instance_cache()
    fsspec.filesystem("memory").store.clear()


def locate(uri: str, *, shared: bool = False) -> SpillLocation:
    return SpillLocation(uri, prefix="", session_name="session", node_id="node", shared=shared)


def beat(*locations: SpillLocation, options: dict[str, str] | None = None) -> None:
    write_heartbeats(ClientPool(options or {}), locations, "node", PATIENT)


@pytest.mark.parametrize("first", [True, False])
def test_a_heartbeat_is_written_where_another_uri_is_down(s3_bucket: str, first: bool) -> None:
    """A URI that fails does not make the session look dead at the others; the failure is raised."""
    uris = ["s3://no-such-bucket/x", f"s3://{s3_bucket}/x"]
    with pytest.raises(StorageNotFoundError, match="no-such-bucket"):
        beat(*map(locate, uris if first else uris[::-1]))
    assert keys(s3_bucket) == [f"{s3_bucket}/x/session/fsspill_heartbeats/node"]


def test_a_heartbeat_is_written_where_another_directory_cannot_be_made(tmp_path: Path) -> None:
    """The same for directories that nodes share."""
    (tmp_path / "a").write_text("a file where a directory should be")
    uris = [f"file://{tmp_path}/a", f"file://{tmp_path}/b"]
    with pytest.raises(FsspillError):
        beat(*(locate(uri, shared=True) for uri in uris))
    assert (tmp_path / "b/session/fsspill_heartbeats/node").exists()


@pytest.mark.parametrize("action", ["heartbeat", "check"])
def test_refused_credentials_are_renewed(
    faulty: FaultyFileSystem, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Heartbeats and checks find replaced credentials, as spills and restores do."""
    pool = ClientPool(FAULTY)
    location = locate("faulty://bucket")
    renewed: list[SpillLocation] = []

    def renew(refused: SpillLocation) -> bool:
        renewed.append(refused)
        faulty.clear()
        return True

    monkeypatch.setattr(pool, "renew", renew)
    faulty.fail("pipe_file", PermissionError("expired"))
    if action == "heartbeat":
        write_heartbeats(pool, [location], "node", PATIENT)
    else:
        check_location(pool, location, PATIENT)
    assert renewed == [location]


def test_node_local_directories_have_no_heartbeat(tmp_path: Path) -> None:
    """Files on a node's own disk live and die with the node."""
    beat(locate(f"file://{tmp_path}"))
    assert files(tmp_path) == []


def test_a_heartbeat_is_rewritten(tmp_path: Path) -> None:
    """Its time is that of the last write, by which clean-up knows that the node lives."""
    location = locate(f"file://{tmp_path}", shared=True)
    beat(location)
    [path] = files(tmp_path)
    os.utime(path, (0, 0))
    beat(location)
    assert path.stat().st_mtime > 0


def plant(path: Path, victim: Path) -> None:
    """Put a link to another file in the place of a check or heartbeat."""
    victim.write_bytes(b"precious")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(victim)


def test_links_that_others_planted_are_not_followed(tmp_path: Path) -> None:
    """The files that checks and heartbeats are written to are known before: a link is replaced."""
    location = locate(f"file://{tmp_path}/spill", shared=True)
    victims = [tmp_path / "1", tmp_path / "2"]
    plant(Path(location.check_file.url), victims[0])
    plant(Path(location.heartbeat_file("node").url), victims[1])
    check_location(ClientPool({}), location, PATIENT)
    beat(location)
    assert [victim.read_bytes() for victim in victims] == [b"precious"] * 2
    assert Path(location.heartbeat_file("node").url).read_bytes().isdigit()


def test_a_link_in_place_of_the_heartbeats_is_an_error(tmp_path: Path) -> None:
    """Nothing is written at its other end, and the message names it."""
    location = locate(f"file://{tmp_path}/spill", shared=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "spill/session").mkdir(parents=True)
    (tmp_path / "spill/session/fsspill_heartbeats").symlink_to(tmp_path / "victim")
    with pytest.raises(StoragePermissionError, match="fsspill_heartbeats, found a link"):
        beat(location)
    assert files(tmp_path) == []


PLANT = """
os.symlink(sys.argv[2], sys.argv[3])
"""


@needs_root
def test_root_does_not_write_where_another_user_wants(tmp_path: Path) -> None:
    """In a directory like /tmp anyone plants a link to a file that only root may write to."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    with public_directory() as root:
        location = locate(f"file://{root}", shared=True)
        run_as(OTHER, PLANT, precious, location.check_file.url)
        check_location(ClientPool({}), location, PATIENT)
        assert files(root) == []
    assert precious.read_bytes() == b"precious"


def test_heartbeats_go_on_while_the_disk_is_full(tmp_path: Path) -> None:
    """A shared disk that is full must not make every session look dead."""
    with small_disk(tmp_path):
        location = locate(f"file://{tmp_path}", shared=True)
        beat(location)
        path = Path(location.heartbeat_file("node").url)
        fill(tmp_path)
        os.utime(path, (0, 0))
        beat(location)
        assert path.stat().st_mtime > 0


def test_directories_below_the_uri_are_private(tmp_path: Path) -> None:
    """The directory that is configured gets the mode that the umask grants, those below 0700."""
    root = tmp_path / "spill"
    location = locate(f"file://{root}", shared=True)
    umask = os.umask(0o022)
    try:
        check_location(ClientPool({}), location, PATIENT)
        beat(location)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "session/fsspill_heartbeats").stat().st_mode) == 0o700
    [heartbeat] = files(root)
    assert stat.S_IMODE(heartbeat.stat().st_mode) == 0o600


def test_a_failed_check_leaves_no_file(faulty: FaultyFileSystem) -> None:
    """A file that was written, though its answer was lost or it cannot be read, is deleted."""
    for operation in ("pipe_file", "cat_file"):
        faulty.fail(operation, PermissionError("refused"), after=True)
        with pytest.raises(StoragePermissionError):
            check_location(ClientPool(FAULTY), locate("faulty://bucket"), PATIENT)
        assert fsspec.filesystem("memory").find("/bucket") == []
        faulty.clear()


def test_a_check_that_reads_other_bytes_fails(
    faulty: FaultyFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that were written must be read again."""

    async def read(self: StorageClient, path: str, nbytes: int, start: int = 0) -> bytes:
        return b"z"

    monkeypatch.setattr(StorageClient, "read", read)
    with pytest.raises(FsspillError, match=r"wrote b'xy' .* read b'z'"):
        check_location(ClientPool(FAULTY), locate("faulty://bucket"), PATIENT)
    assert fsspec.filesystem("memory").find("/bucket") == []


def check(uri: str = "s3://bucket/x", options: dict[str, Any] | None = None) -> None:
    check_location(ClientPool(options or {}), locate(uri), PATIENT)


@pytest.mark.parametrize("path", ["", "x/y"])
def test_an_endpoint_that_contains_the_bucket_is_refused(
    s3_server: S3Server, s3_bucket: str, path: str
) -> None:
    """Files are written and read there, and every listing is empty, so that none is removed."""
    endpoint = f"{s3_server.endpoint_url}/{s3_bucket}"
    with pytest.raises(ConfigError, match=rf"contain the bucket \(found .*/{s3_bucket} "):
        check(f"s3://{s3_bucket}/{path}".rstrip("/"), {"endpoint_url": endpoint})
    assert keys(s3_bucket) == []


def test_a_proxy_that_ignores_ranges_is_refused(proxy: FaultProxy) -> None:
    """No object could be restored."""
    with (
        proxy.speak(IgnoresRanges()),
        pytest.raises(ConfigError, match=r"found the whole file.*ranges"),
    ):
        check()
    assert keys() == []


def test_credentials_that_may_not_list_are_refused(proxy: FaultProxy) -> None:
    """Nothing could be removed at the end."""
    denied = Fixed(lambda: answer_with_code(403, "AccessDenied"), is_listing)
    with proxy.speak(denied), pytest.raises(StoragePermissionError, match="list and delete"):
        check()
    assert keys() == []


@pytest.mark.parametrize("status", [404, 200])
def test_a_storage_without_listings_is_refused(proxy: FaultProxy, status: int) -> None:
    """A 404 to a listing, and one that stays empty, mean that nothing can be found."""
    dialect: Dialect = StaleListings(99)
    if status == 404:
        dialect = Fixed(lambda: answer_with_code(404, "NoSuchKey"), is_listing)
    with proxy.speak(dialect), pytest.raises(ConfigError, match="no listing has it"):
        check()
    assert keys() == []


def test_a_listing_may_come_late(proxy: FaultProxy) -> None:
    """Listings of some storages lag behind writes."""
    with proxy.speak(StaleListings(1)):
        check()
    assert keys() == []


def test_a_check_of_a_full_bucket_lists_one_page(proxy: FaultProxy) -> None:
    """A prefix without a directory of its own may share the bucket with any number of files."""
    fsspec.filesystem("s3").pipe({f"bucket/f{number}": b"x" for number in range(11)})
    proxy.requests.clear()
    with proxy.speak(ShortPages(10)):
        check("s3://bucket")
    assert [request.method for request in proxy.requests] == ["PUT", "GET", "GET", "DELETE"]
