"""The compared storages."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from fsspill.bench.contenders import FSSPILL, RAY, Variant, open_fsspill, open_ray, variants
from fsspill.bench.measure import Batch, measure
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.external_storage import ExternalStorage
from fsspill.settings import MIB, Settings
from tests.at_rest import files, keys, open_uploads
from tests.recording import RequestRecorder

BATCH = Batch(2, 9 * MIB)
PLACE = ("session", "node")


@pytest.fixture
def bench_store() -> ReusedStore:
    return ReusedStore(random_bytes(BATCH.nbytes))


@pytest.mark.parametrize("variant", variants(Settings("s3://bucket")), ids=lambda each: each.title)
def test_every_parameter_differs_from_its_default(
    variant: Variant, bench_store: ReusedStore
) -> None:
    """It is set, and in the name."""
    contender = open_fsspill(Settings("s3://bucket"), bench_store, PLACE, variant)
    assert isinstance(contender.storage, ExternalStorage)
    settings = contender.storage.settings
    assert getattr(settings, variant.name) == variant.value
    assert getattr(settings, variant.name) != getattr(Settings("s3://bucket"), variant.name)
    assert contender.name.startswith(f"{variant.name}=")


def test_directories_have_no_parameters_to_compare() -> None:
    """They concern requests."""
    assert variants(Settings("file:///x")) == []


def test_requests_are_those_that_the_server_answers(
    recorder: RequestRecorder, s3_bucket: str, bench_store: ReusedStore
) -> None:
    """Of Ray's own by boto3's events, of fsspill by its metrics."""
    for package in ("ray", "smart_open"):
        pytest.importorskip(package)
    settings = Settings(f"s3://{s3_bucket}/spill")
    fsspill = open_fsspill(settings, bench_store, PLACE)
    with open_ray(settings, bench_store, PLACE) as (rays, reason):
        assert rays is not None, reason
        for contender in (rays, fsspill):
            recorder.requests()
            [found] = measure(BATCH, [contender], bench_store, 0)
            requests = recorder.requests()
            made = Counter(each.method for each in requests if not each.path.endswith("?delete"))
            spill, restore = found.spills[0], found.restores[0]
            assert (spill.reads, restore.writes) == (0, 0)
            assert restore.reads == made["GET"] > 0
            assert spill.writes == made["PUT"] + made["POST"] > 0
    assert keys()  # of Ray's own, which deletes nothing
    assert isinstance(fsspill.storage, ExternalStorage)
    fsspill.storage.destroy_external_storage()
    assert keys() == open_uploads() == []


@pytest.mark.parametrize("shared", [True, False])
def test_rays_own_class_uses_the_directory_of_fsspill(
    shared: bool, tmp_path: Path, bench_store: ReusedStore
) -> None:
    """Which removes its files."""
    pytest.importorskip("ray")
    settings = Settings(f"file://{tmp_path}", shared=shared)
    fsspill = open_fsspill(settings, bench_store, PLACE)
    with open_ray(settings, bench_store, PLACE) as (rays, _):
        assert rays is not None
        assert rays.name == RAY
        rays.spill(bench_store.fill(*(BATCH.count, BATCH.size)))
    assert files(tmp_path)
    assert isinstance(fsspill.storage, ExternalStorage)
    fsspill.storage.destroy_external_storage()
    assert files(tmp_path) == []


def test_storage_that_ray_has_no_class_for(bench_store: ReusedStore) -> None:
    """Fsspill is measured alone."""
    settings = Settings("memory://x")
    with open_ray(settings, bench_store, PLACE) as (rays, reason):
        assert rays is None
        assert reason == "Ray has no class of its own for memory://."


@pytest.mark.parametrize("missing", ["ray", "smart_open", "boto3"])
def test_a_package_that_is_missing(
    missing: str, monkeypatch: pytest.MonkeyPatch, bench_store: ReusedStore
) -> None:
    """It is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else sys)
    with open_ray(Settings("s3://bucket"), bench_store, PLACE) as (rays, reason):
        assert rays is None
        assert reason.endswith(f"needs the package {missing}.")
    assert FSSPILL not in reason
