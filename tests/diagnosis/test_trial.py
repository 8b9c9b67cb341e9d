"""Files of a check, which are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsspill.diagnosis.trial import Trial
from fsspill.settings import Settings
from tests.at_rest import keys, open_uploads


def write(trial: Trial, error: BaseException) -> None:
    """Write a file, and leave a part of another."""
    with trial:
        trial.put("file", b"x")
        path = trial.client.path(trial.file("upload"))
        trial.ask(lambda client: client.create_multipart(path), "cannot upload to")
        assert len(keys()) == len(open_uploads()) == 1
        raise error


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
def test_all_files_are_removed(s3_bucket: str, error: BaseException) -> None:
    """Also after an exception, and uploads that were not completed."""
    uri = f"s3://{s3_bucket}/x"
    with pytest.raises(type(error)):
        write(Trial(Settings(uri), uri), error)
    assert keys() == open_uploads() == []


@pytest.mark.parametrize("shared", [True, False])
def test_no_directory_is_left(tmp_path: Path, shared: bool) -> None:
    """Nor is any made that was not needed."""
    uri = f"file://{tmp_path}/x"
    with Trial(Settings(uri, shared=shared), uri) as trial:
        assert list(tmp_path.iterdir()) == []
        trial.put("file", b"x")
    assert list(tmp_path.glob("x/*")) == []


def test_a_session_of_its_own_is_named(memory_uri: str) -> None:
    """By that name ``fsspill ls`` shows what a killed process leaves."""
    trial = Trial(Settings(memory_uri, prefix="p"), memory_uri)
    assert trial.file("f").url.startswith(f"{memory_uri}/p/fsspill-check-")
    assert trial.uri == f"{memory_uri}/p"


def test_only_the_checked_uri_is_written(tmp_path: Path) -> None:
    """Of several, which share the other parameters."""
    uris = [f"file://{tmp_path}/a", f"file://{tmp_path}/b"]
    with Trial(Settings(uris, min_free_bytes=3), uris[1]) as trial:
        trial.put("file", b"x")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert trial.settings.min_free_bytes == 3
