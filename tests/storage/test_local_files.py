"""Local files below a directory in which other users may write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fsspill.storage.local_files import (
    OpenDirectory,
    create_file,
    list_names,
    open_directory,
    open_file,
    remove_directory,
    remove_file,
    rewrite_file,
)
from tests.other_users import NOT_ROOT, OTHER, needs_root, public_directory, run_as

PATH = "/session/ray_spilled_objects_node/file"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a directory outside of the configured one, with a file in it."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "file").write_bytes(b"precious")
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "spill"
    directory.mkdir()
    return directory


def untouched(victim: Path) -> bool:
    return {path.name: path.read_bytes() for path in victim.iterdir()} == {"file": b"precious"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# Links


@pytest.mark.parametrize("above", [True, False])
def test_links_to_the_configured_directory_are_followed(
    tmp_path: Path, root: Path, above: bool
) -> None:
    """They were made on purpose: /mnt/spill may be a link to a disk, /tmp one to /private/tmp."""
    (tmp_path / "link").symlink_to(tmp_path if above else root)
    configured = f"{tmp_path}/link/spill" if above else f"{tmp_path}/link"
    os.close(create_file(configured, PATH))
    assert (root / PATH[1:]).exists()
    os.close(open_file(configured, PATH))
    remove_directory(configured, PATH.rpartition("/")[0])
    assert list_names(configured, "/session") == []


@pytest.mark.parametrize("planted", ["session", "session/ray_spilled_objects_node"])
@pytest.mark.parametrize("create", [create_file, rewrite_file])
def test_links_in_place_of_directories_are_refused(
    root: Path, victim: Path, planted: str, create: object
) -> None:
    """Nothing is written, read, listed or removed at the other end, and the message names it."""
    (root / planted).parent.mkdir(exist_ok=True)
    (root / planted).symlink_to(victim)
    (victim / "ray_spilled_objects_node").symlink_to(victim)
    assert callable(create)
    for refused in (create, open_file, remove_file):
        with pytest.raises(PermissionError, match=f"{planted}.* found a link"):
            refused(str(root), PATH)
    with pytest.raises(PermissionError):
        list_names(str(root), PATH.rpartition("/")[0])
    remove_directory(str(root), PATH.rpartition("/")[0])
    (victim / "ray_spilled_objects_node").unlink()
    assert untouched(victim)


def test_a_link_in_place_of_a_file_is_not_followed(root: Path, victim: Path) -> None:
    """Neither by writes nor by reads; removing it removes the link."""
    node = root / "session/ray_spilled_objects_node"
    node.mkdir(parents=True)
    (node / "file").symlink_to(victim / "file")
    with pytest.raises(FileExistsError):
        create_file(str(root), PATH)
    with pytest.raises(PermissionError, match="found a link"):
        open_file(str(root), PATH)
    remove_file(str(root), PATH)
    assert list(node.iterdir()) == []
    assert untouched(victim)


@pytest.mark.parametrize("planted", ["link", "dangling link", "hard link", "pipe"])
def test_what_is_planted_in_place_of_a_rewritten_file_is_replaced(
    root: Path, victim: Path, planted: str
) -> None:
    """The file that it leads to stays as it is, and opening a pipe does not wait."""
    path = root / "session/fsspill_heartbeats/head"
    path.parent.mkdir(parents=True)
    if planted == "hard link":
        path.hardlink_to(victim / "file")
    elif planted == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(victim / ("file" if planted == "link" else "new"))
    with open(rewrite_file(str(root), "/session/fsspill_heartbeats/head"), "wb") as file:
        file.write(b"now")
    assert path.read_bytes() == b"now"
    assert not path.is_symlink()
    assert untouched(victim)


def test_a_rewritten_file_stays_the_same_file(root: Path) -> None:
    """It needs no free space: the heartbeat of a session goes on while the disk is full."""
    path = root / "head"
    for content in (b"1", b"2"):
        with open(rewrite_file(str(root), "/head"), "wb") as file:
            file.write(content)
        inode = path.stat().st_ino
    assert path.read_bytes() == b"2"
    os.close(rewrite_file(str(root), "/head"))
    assert path.stat().st_ino == inode
    assert path.read_bytes() == b"2"


@pytest.mark.parametrize("operation", ["create", "open", "remove", "remove_directory"])
def test_a_directory_that_is_replaced_meanwhile_leads_nowhere_else(
    root: Path, victim: Path, operation: str
) -> None:
    """An open directory stays the one that was checked."""
    os.close(create_file(str(root), PATH))
    with (
        open_directory(str(root), "session") as session,
        open_directory(str(root), "session/ray_spilled_objects_node") as node,
    ):
        (root / "session").rename(root / "moved")
        (root / "session").symlink_to(victim)
        (victim / "ray_spilled_objects_node").symlink_to(victim)
        if operation == "remove_directory":
            session.remove_directory("ray_spilled_objects_node")
        elif operation == "create":
            os.close(node.create("new"))
        elif operation == "open":
            with open(node.open("file"), "rb") as file:
                assert file.read() == b""
        else:
            node.remove("file")
    (victim / "ray_spilled_objects_node").unlink()
    assert untouched(victim)


# Modes and owners


@pytest.mark.parametrize(("mask", "shared"), [(0, 0o1777), (0o022, 0o1755), (0o077, 0o1700)])
def test_directories_of_nodes_are_private_whatever_the_umask(
    root: Path, mask: int, shared: int
) -> None:
    """Where the umask lets others make directories, none can replace that of another."""
    with umask(mask):
        os.close(create_file(str(root), PATH))
    assert mode(root / "session") == shared
    assert mode(root / "session/ray_spilled_objects_node") == 0o700
    assert mode(root / PATH[1:]) == 0o600


def test_directories_may_inherit_a_group(root: Path) -> None:
    """The bit that hands the group on is no permission."""
    root.chmod(0o2775)
    for path in (PATH, PATH + "2"):
        os.close(create_file(str(root), path))
    assert mode(root / "session/ray_spilled_objects_node") & 0o777 == 0o700


def test_a_directory_in_which_others_may_write_is_made_private(root: Path) -> None:
    """Others could replace the files that are unpickled."""
    node = root / "session/ray_spilled_objects_node"
    node.mkdir(parents=True)
    node.chmod(0o777)
    os.close(create_file(str(root), PATH))
    assert mode(node) == 0o700


CREATE = """
from fsspill.storage.local_files import create_file, rewrite_file
try:
    os.close(globals()[sys.argv[2]](sys.argv[3], sys.argv[4]))
except PermissionError as error:
    print(error)
"""


@needs_root
@pytest.mark.parametrize("user", [0, NOT_ROOT])
def test_a_directory_of_another_user_is_refused(user: int) -> None:
    """He could replace what the raylet unpickles; nothing is left there."""
    with public_directory() as root:
        (root / "session").mkdir()
        node = root / "session/ray_spilled_objects_node"
        node.mkdir()
        os.chown(node, OTHER, OTHER)
        node.chmod(0o777)
        refused = run_as(user, CREATE, "create_file", root, PATH)
        assert f"expected a directory of user {user} at {node}" in refused
        assert f"found one of user {OTHER}" in refused
        assert list(node.iterdir()) == []


@needs_root
@pytest.mark.parametrize("create", ["create_file", "rewrite_file"])
@pytest.mark.parametrize("public", [True, False])
def test_a_session_of_another_user_is_refused_where_all_users_may_write(
    create: str, public: bool
) -> None:
    """A cluster of several users works in a directory that is not open to all others."""
    with public_directory(0o1777 if public else 0o755) as root:
        (root / "session").mkdir()
        os.chown(root / "session", OTHER, OTHER)
        (root / "session").chmod(0o777)
        refused = run_as(0, CREATE, create, root, PATH)
        assert ("All users may write in the configured directory" in refused) is public
        assert (root / PATH[1:]).exists() is not public


@needs_root
def test_a_file_that_another_user_planted_is_not_written_to() -> None:
    """In a sticky directory it cannot be removed either."""
    with public_directory() as root:
        planted = root / "fsspill-check-0"
        planted.write_bytes(b"planted")
        os.chown(planted, OTHER, OTHER)
        planted.chmod(0o666)
        assert run_as(NOT_ROOT, CREATE, "rewrite_file", root, "/fsspill-check-0")
        assert planted.read_bytes() == b"planted"


AS_NFS = """
import ctypes
from pathlib import Path
from fsspill import ExternalStorage
ctypes.CDLL(None).setfsuid(65534)
storage = ExternalStorage("file://" + sys.argv[2], shared=sys.argv[3] == "shared", node_id="node")
store = storage.object_store
storage.check()
for ref in (b"a", b"b"):
    store.put(ref, b"data" + ref)
    urls = storage.spill_objects([ref])
    store.delete(ref)
    storage.restore_spilled_objects([ref], urls)
    assert store.get(ref) == b"data" + ref
    storage.files.write_heartbeat("node")
assert {os.stat(path).st_uid for path in Path(sys.argv[2]).rglob("*")} == {65534}
storage.destroy_external_storage()
assert os.listdir(sys.argv[2]) == []
"""


@needs_root
@pytest.mark.parametrize("shared", ["shared", "node-local"])
def test_files_of_root_may_belong_to_nobody(shared: str) -> None:
    """NFS gives them to that user: spills, restores, checks and heartbeats go on."""
    with public_directory(0o777) as root:
        run_as(0, AS_NFS, root, shared)


def test_an_open_directory_is_closed(root: Path) -> None:
    """No file descriptor is left, whatever was refused."""
    (root / "link").symlink_to(root)
    before = len(os.listdir("/dev/fd"))
    os.close(create_file(str(root), PATH))
    for name in ("link", "missing"):
        with (
            OpenDirectory(str(root)) as opened,
            pytest.raises((FileNotFoundError, PermissionError)),
        ):
            opened.enter(name)
        with pytest.raises((FileNotFoundError, PermissionError)):
            open_file(str(root), f"/session/{name}/file")
    assert len(os.listdir("/dev/fd")) == before
