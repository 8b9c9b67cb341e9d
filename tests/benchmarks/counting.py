"""How many requests it takes to set up, and to delete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

from fsspill.ray.head import validate_external_storage
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.reused_store import ReusedStore
from tests.benchmarks.sides import BUCKET, Side
from tests.benchmarks.table import shown_requests

__all__ = ["RequestsRow", "count_deletion", "count_setup"]


@dataclass(frozen=True)
class RequestsRow:
    """The requests that something took."""

    headings: ClassVar[Sequence[str]] = ("", "", "requests")

    what: str
    side: str
    requests: Counter[str]

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        return self.what, self.side, shown_requests(self.requests)


def count_setup(server: LinkServer) -> Iterator[RequestsRow]:
    """Set fsspill up as Ray does, on the head of a cluster and in an IO worker.

    Notes
    -----
    Uses Ray's module of external storage, and leaves it as it is when Ray is imported.
    """
    from ray._private import external_storage as rays

    params = {
        "uri": f"s3://{BUCKET}",
        "storage_options": {"endpoint_url": server.endpoint_url},
        "allow_secrets": True,
    }
    node = _head({"type": "fsspec", "params": params})

    def set_up() -> None:
        rays.setup_external_storage(json.loads(node._object_spilling_config), "random", "session")

    def rays_part(node: Any) -> None:
        set_up()
        rays._external_storage.destroy_external_storage()

    before = server.stats()
    validate_external_storage(node, rays_part)
    yield RequestsRow("setup on the head", "fsspill", server.stats().since(before).requests)
    before = server.stats()
    set_up()
    yield RequestsRow("setup in an IO worker", "fsspill", server.stats().since(before).requests)
    rays.reset_external_storage()


def _head(config: Any) -> Any:
    """Return as much of Ray's Node as a head's validation looks at."""
    return SimpleNamespace(
        _config={},
        _ray_params=SimpleNamespace(_system_config={}),
        _session_name="session",
        _object_spilling_config=json.dumps(config),
    )


def count_deletion(
    files: int, sides: Sequence[Side], store: ReusedStore, server: LinkServer
) -> Iterator[RequestsRow]:
    """Delete so many files of one object each with one call, on all sides."""
    for side in sides:
        urls = [url for ref in store.fill(files, 1) for url in side.spill([ref])]
        before = server.stats()
        side.delete(urls)
        requests = server.stats().since(before).requests
        yield RequestsRow(f"deletion of {files:,} files", side.name, requests)
        server.reset()
