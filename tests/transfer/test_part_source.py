"""Sources of an upload's bytes without compression."""

from __future__ import annotations

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
)
from tests.at_rest import open_uploads
from tests.recording import RequestRecorder
from tests.spilling import fill

KIB, MIB = 2**10, 2**20


def test_a_large_file_is_uploaded_in_parts(
    recorder: RequestRecorder, storage: ExternalStorage, store: InMemoryObjectStore, s3_bucket: str
) -> None:
    """40 MiB are a multipart upload of 5 concurrent parts."""
    [ref] = fill(store, 1, 40 * MIB)
    urls = storage.spill_objects([ref])
    assert recorder.methods() == {"POST": 2, "PUT": 5}
    store.delete(ref)
    assert storage.restore_spilled_objects([ref], urls) == 40 * MIB
    assert store.get(ref) == bytes(40 * MIB)
    assert open_uploads(s3_bucket) == []
