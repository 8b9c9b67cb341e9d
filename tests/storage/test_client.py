"""Operations that every filesystem has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fsspill import FsspillError, StoragePermissionError, StorageUnavailableError
from fsspill.storage.client_pool import open_client
from tests.altered_answers import refuse_deletion
from tests.at_rest import files


def delete(uri: str, paths: Sequence[str]) -> dict[str, FsspillError]:
    client = open_client(uri, {})
    return client.run(client.delete, paths, 8)


@pytest.mark.parametrize("size", [None, "12", "missing"])
def test_an_answer_without_a_size_is_a_transient_error(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, size: Any
) -> None:
    """Such an answer does not tell how long the file is."""
    client = open_client(f"s3://{s3_bucket}/p", {})

    async def info(path: str) -> dict[str, Any]:
        return {} if size == "missing" else {"size": size}

    monkeypatch.setattr(client.connection.fs, "_info", info)
    with pytest.raises(StorageUnavailableError, match="expected a number of bytes"):
        client.run(client.size, f"{s3_bucket}/p/a")


def test_names_are_never_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting ``[ab]*`` deletes the file of that name alone; failures have their own paths."""
    names = ["[ab]*", "a", "b", "c"]
    for name in names:
        (tmp_path / name).write_bytes(b"abc")
    refuse_deletion(monkeypatch).add("c")
    failures = delete(
        f"file://{tmp_path}", [f"{tmp_path}/{name}" for name in ("[ab]*", "c", "missing")]
    )
    assert {path: type(error) for path, error in failures.items()} == {
        f"{tmp_path}/c": StoragePermissionError
    }
    assert sorted(path.name for path in files(tmp_path)) == ["a", "b", "c"]
