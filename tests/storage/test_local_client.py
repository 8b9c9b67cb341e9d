"""Clean-up of a local directory in which other users may write."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fsspill.storage.client_pool import open_client
from fsspill.storage.local_client import LocalClient


@pytest.fixture
def client(tmp_path: Path) -> LocalClient:
    """Return the client of a directory that a link leads to, with another one next to it."""
    for name in ("spill/session/node", "victim/empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("spill/session/node/file", "victim/file"):
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "spill")
    client = open_client(f"file://{tmp_path}/link", {})
    assert isinstance(client, LocalClient)
    return client


def test_files_below_a_configured_link_are_read_and_removed(
    client: LocalClient, tmp_path: Path
) -> None:
    """The directory itself may be reached through a link; what is gone already is fine."""
    node = f"{client.root}/session/node"
    assert client.run(client.read, f"{node}/file", 4) == b"prec"
    assert client.run(client.delete, [f"{node}/file", f"{node}/missing/file"], 2) == {}
    client.run(client.remove_directories, [node, f"{client.root}/session"])
    assert list((tmp_path / "spill").iterdir()) == []


Call = Callable[[LocalClient, str], Coroutine[Any, Any, Any]]


@pytest.mark.parametrize(
    "call",
    [
        lambda client, path: client.read(f"{path}/file", 1),
        lambda client, path: client.delete_file(f"{path}/file"),
    ],
    ids=["read", "delete"],
)
def test_links_below_it_are_refused(client: LocalClient, tmp_path: Path, call: Call) -> None:
    """Nothing outside is read or removed."""
    (tmp_path / "spill/session/planted").symlink_to(tmp_path / "victim")
    with pytest.raises(PermissionError, match="planted, found a link"):
        client.run(call, client, f"{client.root}/session/planted")
    assert (tmp_path / "victim/file").exists()


def test_directories_outside_are_not_removed(client: LocalClient, tmp_path: Path) -> None:
    """A link stays, as does what it leads to."""
    (tmp_path / "spill/session/planted").symlink_to(tmp_path / "victim")
    path = f"{client.root}/session/planted"
    client.run(client.remove_directories, [f"{path}/empty", path])
    assert (tmp_path / "victim/empty").is_dir()
    assert (tmp_path / "spill/session/planted").is_symlink()
