"""Names of the files of a node under a configured URI."""

from __future__ import annotations

import pytest

from fsspill import ConfigError
from fsspill.storage.layout import HEAD, FileRef, SpillLocation, find_file


def locate(uri: str, *, prefix: str = "", shared: bool = False) -> SpillLocation:
    return SpillLocation(uri, prefix=prefix, session_name="s", node_id="n", shared=shared)


REMOTE = locate("memory://bucket/a")
NODE_LOCAL = locate("file:///disk/a")


@pytest.mark.parametrize(
    ("location", "directory", "session"),
    [
        (REMOTE, "memory://bucket/a/s/ray_spilled_objects_n", "/s"),
        (locate("memory://bucket/a/"), "memory://bucket/a/s/ray_spilled_objects_n", "/s"),
        (locate("memory://b", prefix="/x/y/"), "memory://b/x/y/s/ray_spilled_objects_n", "/s"),
        (locate("file:///disk/a", shared=True), "/disk/a/s/ray_spilled_objects_n", "/s"),
        (NODE_LOCAL, "/disk/a/ray_spilled_objects_n", None),
        (locate("file:///disk//a", prefix="x"), "/disk/a/x/ray_spilled_objects_n", None),
    ],
)
def test_only_node_local_directories_have_no_session(
    location: SpillLocation, directory: str, session: str | None
) -> None:
    """They have Ray's own layout; others carry the session. Extra slashes are dropped."""
    assert location.node_directory == directory
    assert location.session_path == session
    assert location.node_local == (session is None)


def test_heartbeats_are_outside_the_directories_of_nodes() -> None:
    """The heartbeat of the head is in the same directory of the session."""
    assert REMOTE.heartbeat_file("n").url == "memory://bucket/a/s/fsspill_heartbeats/n"
    assert REMOTE.heartbeat_file(HEAD).url == "memory://bucket/a/s/fsspill_heartbeats/head"


def test_probe_files_are_where_the_spilled_files_of_the_node_are() -> None:
    """They go with the directory of the node if a probe is killed."""
    assert REMOTE.probe_file("name").url == f"{REMOTE.node_directory}/fsspill-check-name"


def test_each_node_has_one_check_file() -> None:
    """Its name is that of every check of the node, and differs between nodes."""
    other = SpillLocation(
        "memory://bucket/a", prefix="", session_name="s", node_id="m", shared=True
    )
    assert REMOTE.check_file.url.startswith("memory://bucket/a/fsspill-check-")
    assert REMOTE.check_file.path == locate("memory://bucket/a").check_file.path
    assert REMOTE.check_file.path != other.check_file.path


@pytest.mark.parametrize("location", [REMOTE, NODE_LOCAL])
def test_new_files_are_unique_and_carry_their_length(location: SpillLocation) -> None:
    """A renamed file has another name in the same directory, and the same length."""
    files = [location.new_file(3, 4096) for _ in range(2)]
    files.append(files[0].renamed())
    assert len({file.url for file in files}) == 3
    assert {file.nbytes for file in files} == {4096}
    assert all(file.path.startswith(f"{location.node_path}/") for file in files)
    assert all("-multi-3-" in file.path for file in files)
    assert [location.find(file.url) for file in files] == files


@pytest.mark.parametrize("name", ["file", "x-multi-3-", "x-multi-3-4k", "x-multi-1-multi-2-7"])
def test_files_of_other_names_have_no_known_length(name: str) -> None:
    """Ray's own names end without a length; only the whole form counts."""
    assert FileRef(REMOTE, f"{REMOTE.node_path}/{name}").nbytes == 0


@pytest.mark.parametrize(
    "url",
    [
        "memory://bucket/a/s/ray_spilled_objects_other/f",
        "memory://bucket/a/another-session/ray_spilled_objects_n/f",
    ],
)
def test_files_of_every_node_and_session_are_found(url: str) -> None:
    """Any node restores and deletes what another one spilled under the same URI."""
    file = REMOTE.find(url)
    assert file is not None
    assert (file.location, file.url) == (REMOTE, url)
    assert find_file([NODE_LOCAL, REMOTE], url) == file


@pytest.mark.parametrize(
    "url",
    [
        "memory://bucket/ab/s/ray_spilled_objects_n/f",
        "memory://other/a/s/ray_spilled_objects_n/f",
        "memory://bucket/a/ray_spilled_objects_n/f",
        "memory://bucket/a/s/ray_spilled_objects_n/deeper/f",
        "memory://bucket/a/s/ray_spilled_objects_n/../f",
        "memory://bucket/a/../ray_spilled_objects_n/f",
        "memory://bucket/a/s/ray_spilled_objects_n/",
        "memory://bucket/a/s/fsspill_heartbeats/head",
        "/disk/a/s/ray_spilled_objects_n/f",
        "/disk/a/ray_spilled_objects_n",
        "/etc/passwd",
        "",
    ],
)
def test_other_files_are_refused(url: str) -> None:
    """Only a spilled file below a configured URI is read or deleted, whatever a URL names."""
    assert REMOTE.find(url) is None
    assert NODE_LOCAL.find(url) is None
    with pytest.raises(ConfigError):
        find_file([REMOTE, NODE_LOCAL], url)


@pytest.mark.parametrize("component", ["", ".", "..", "a/b", "a b", "a\n", "a?", "ä", 3, None])
def test_invalid_components_are_refused(component: object) -> None:
    """The error names the parameter and shows the value."""
    names = {"session_name": "s", "node_id": "n"}
    for name in names:
        with pytest.raises(ConfigError, match=f"cannot use {name}="):
            SpillLocation(
                "memory://b",
                prefix="",
                shared=False,
                **{**names, name: component},  # type: ignore[arg-type]
            )


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a b"])
def test_invalid_prefixes_are_refused(prefix: str) -> None:
    """Each component of the prefix is checked."""
    with pytest.raises(ConfigError, match="cannot use prefix="):
        locate("memory://b", prefix=prefix)
