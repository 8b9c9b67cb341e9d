"""The storage that Ray gets in a process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray")

from ray._private import external_storage as rays

from fsspill import ConfigError, NullStorage
from fsspill.ray.io_worker import IOWorkerStorage
from fsspill.ray.setup import FailedStorage, setup_external_storage, validation
from fsspill.testing.s3_server import S3Server


def test_the_hook_makes_ray_use_fsspill() -> None:
    """Ray's setup returns its storage, and Ray's module-level functions act on it."""
    config = {"type": "fsspec", "params": {"uri": "s3://bucket/x"}}
    storage = rays.setup_external_storage(config, "node1", "session1")
    assert type(storage) is IOWorkerStorage
    assert rays._external_storage is storage
    assert rays.spill_objects([], []) == []
    rays.reset_external_storage()


def test_other_storage_types_remain_those_of_ray(tmp_path: Path) -> None:
    """Their configurations reach Ray's own setup."""
    config = {"type": "filesystem", "params": {"directory_path": str(tmp_path)}}
    storage = rays.setup_external_storage(config, "node1", "session1")
    assert type(storage) is rays.FileSystemStorage
    rays.reset_external_storage()


def test_setup_makes_no_request_and_never_raises(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Setup makes no request. Its failure is logged once; only a restore raises it."""
    seen = len(s3_server.requests())
    config = {"type": "fsspec", "params": {"uri": "s3://no-such-bucket"}}
    assert type(rays.setup_external_storage(config, "n", "s")) is IOWorkerStorage
    assert len(s3_server.requests()) == seen

    config = {"type": "fsspec", "params": {"uri": "nonsense://x"}}
    storage = rays.setup_external_storage(config, "n", "s")
    assert type(storage) is FailedStorage
    for _ in range(2):
        assert rays.spill_objects([b"x"], [b""]) == []
        with pytest.raises(ConfigError, match="knows no protocol"):
            rays.restore_spilled_objects([b"x"], [b"u"])
        rays.delete_spilled_objects([b"u"])
    assert caplog.text.count("This node cannot") == 1
    storage.destroy_external_storage()
    rays.reset_external_storage()


def test_validation_gets_storage_that_does_nothing(tmp_path: Path) -> None:
    """Ray destroys it without having used it; afterwards setup is as before."""
    config = {"type": "fsspec", "params": {"uri": f"file://{tmp_path}", "shared": True}}
    with validation():
        storage = setup_external_storage(config, "node", "session")
    assert isinstance(storage, NullStorage)
    storage.destroy_external_storage()
    with pytest.raises(NotImplementedError):
        storage.spill_objects([b"x"])
    assert type(setup_external_storage(config, "node", "session")) is IOWorkerStorage
    assert list(tmp_path.iterdir()) == []


def test_validation_that_raises_ends(tmp_path: Path) -> None:
    """Setup is as before after a validation that failed, too."""
    with pytest.raises(ValueError, match="refused by Ray"), validation():
        raise ValueError("refused by Ray")
    config = {"type": "fsspec", "params": {"uri": f"file://{tmp_path}"}}
    assert type(setup_external_storage(config, "node", "session")) is IOWorkerStorage


def test_storage_that_was_never_set_up_reports_why() -> None:
    """Spills return nothing; restores raise, since other nodes may restore the object."""
    told: list[str] = []
    storage = FailedStorage(ValueError("the package is missing."), told.append, list)
    assert [storage.spill_objects([b"x"]) for _ in range(9)] == [[]] * 9
    with pytest.raises(ValueError, match="the package is missing"):
        storage.restore_spilled_objects([b"x"], [b"u"])
    storage.delete_spilled_objects([b"u"])
    storage.destroy_external_storage()
    assert set(told) == {
        "the package is missing. This node cannot spill objects.",
        "the package is missing. This node cannot restore objects.",
        "the package is missing. This node cannot delete spilled files.",
    }


@pytest.mark.parametrize(
    "value", [{"FSSPILL_CACHE_DIR": "relative"}, {"FSSPILL_CACHE_MAX_BYTES": "much"}]
)
def test_a_node_whose_copies_cannot_work_spills_without_them(
    value: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not needed; the log has the reason."""
    for variable, text in value.items():
        monkeypatch.setenv(variable, text)
    config = {"type": "fsspec", "params": {"uri": "memory://x"}}
    storage = setup_external_storage(config, "n", "s")
    assert type(storage) is IOWorkerStorage
    assert storage._storage.settings.cache_dir is None
    assert "this process keeps no local copies: cannot use" in caplog.text


def test_any_other_parameter_that_cannot_work_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to copies that cannot."""
    monkeypatch.setenv("FSSPILL_CACHE_DIR", "relative")
    config = {"type": "fsspec", "params": {"uri": "memory://x", "file_size": 0}}
    assert type(setup_external_storage(config, "n", "s")) is FailedStorage
