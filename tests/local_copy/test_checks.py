"""Checks of the directory for copies when a node starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsspill import ConfigError, ExternalStorage
from fsspill.local_copy.checks import check_directory, probe_directory
from fsspill.storage.mount import Mount
from tests.hung_mount import HungMount
from tests.other_users import NOT_ROOT, fill, needs_root, public_directory, run_as, small_disk
from tests.timeouts import PATIENT

KIB = 2**10


def check(root: Path, max_bytes: int = KIB) -> None:
    check_directory(Mount(str(root), PATIENT), str(root), max_bytes)


def test_a_directory_that_can_keep_copies_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is left of the check."""
    (tmp_path / "theirs").mkdir()
    check(tmp_path)
    assert os.listdir(tmp_path) == ["theirs"]


def test_a_missing_directory_and_a_file_are_refused(tmp_path: Path) -> None:
    """Neither is made or replaced."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(ConfigError, match=r"there is no such directory.*make it, or leave"):
            check(path)
    assert os.listdir(tmp_path) == ["file"]


def test_more_than_the_disk_has_is_refused(tmp_path: Path) -> None:
    """Nine tenths of it, because a tenth stays free; the message has the number."""
    with small_disk(tmp_path, size="1000k"):
        check(tmp_path, 900 * KIB)
        with pytest.raises(ConfigError, match=f"no more than {900 * KIB}, nine tenths"):
            check(tmp_path, 900 * KIB + 1)


def test_a_directory_in_memory_is_accepted_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its copies take the memory that spilling should free."""
    with small_disk(tmp_path):
        check(tmp_path)
    assert "is in memory (tmpfs)" in caplog.text


def test_a_full_and_a_read_only_disk_are_refused(tmp_path: Path) -> None:
    """With what the system says."""
    with small_disk(tmp_path):
        fill(tmp_path)
        with pytest.raises(ConfigError, match="No space left on device"):
            check(tmp_path)
    with small_disk(tmp_path, "ro"), pytest.raises(ConfigError, match="Read-only file system"):
        check(tmp_path)


@needs_root
def test_a_directory_of_another_user_is_refused() -> None:
    """One in which this user may not write."""
    code = """
from fsspill import ExternalStorage
try:
    storage = ExternalStorage("memory://x", cache_dir=sys.argv[2], cache_max_bytes=2**30)
    storage.check()
except ValueError as error:
    print(error)
"""
    with public_directory(0o755) as root:
        printed = run_as(NOT_ROOT, code, root)
    assert f"cannot use cache_dir='{root}': [Errno 13] Permission denied" in printed


def test_a_disk_that_does_not_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of Ray does not wait for it."""
    mount = HungMount(str(tmp_path), monkeypatch)
    with mount.hung("mkdir"), pytest.raises(ConfigError, match="no answer of the file system"):
        check(tmp_path)


def test_the_check_of_a_storage_checks_the_directory(memory_uri: str, tmp_path: Path) -> None:
    """And removes what earlier sessions have left there."""
    left = tmp_path / "session" / "node"
    left.mkdir(parents=True)
    (left / "fsspill.alive").touch()
    (left / ("0" * 32 + "-multi-1-1")).touch()
    ExternalStorage(memory_uri, cache_dir=str(tmp_path), cache_max_bytes=2**30).check()
    assert os.listdir(tmp_path) == []
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cache_dir"):
        ExternalStorage(memory_uri, cache_dir=missing, cache_max_bytes=2**30).check()


def test_a_probe_raises_what_the_disk_does(tmp_path: Path) -> None:
    """A background probe asks whether copies can be kept again."""
    probe_directory(str(tmp_path))
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        probe_directory(str(tmp_path / "missing"))
