"""The number of requests of setup and of deletion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

from fsspill.bench.contenders import Contender
from fsspill.bench.reused_store import ReusedStore
from fsspill.ray.head import validate_external_storage
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.table import shown_requests

__all__ = ["RequestsRow", "count_deletion", "count_setup"]


@dataclass(frozen=True)
class RequestsRow:
    """The requests of one action."""

    headings: ClassVar[Sequence[str]] = ("", "", "requests")

    action: str
    contender: str
    requests: Counter[str]

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return self.action, self.contender, shown_requests(self.requests)


def count_setup(server: LinkServer) -> Iterator[RequestsRow]:
    """Count the requests of a setup by Ray, on the head of a cluster and in an IO worker.

    Notes
    -----
    Uses Ray's module of external storage, and restores its initial state.
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

    def validate_with_ray(node: Any) -> None:
        set_up()
        rays._external_storage.destroy_external_storage()

    before = server.stats()
    validate_external_storage(node, validate_with_ray)
    yield RequestsRow("setup on the head", "fsspill", server.stats().since(before).requests)
    before = server.stats()
    set_up()
    yield RequestsRow("setup in an IO worker", "fsspill", server.stats().since(before).requests)
    rays.reset_external_storage()


def _head(config: Any) -> Any:
    """Return a stand-in for Ray's Node with the attributes that validation on a head reads."""
    return SimpleNamespace(
        head=True,
        _config={},
        _ray_params=SimpleNamespace(_system_config={}),
        _session_name="session",
        _object_spilling_config=json.dumps(config),
    )


def count_deletion(
    files: int, contenders: Sequence[Contender], store: ReusedStore, server: LinkServer
) -> Iterator[RequestsRow]:
    """Count the requests of deleting `files` files of one object each with one call."""
    for contender in contenders:
        urls = [url for ref in store.fill(files, 1) for url in contender.spill([ref])]
        before = server.stats()
        contender.delete(urls)
        requests = server.stats().since(before).requests
        yield RequestsRow(f"deletion of {files:,} files", contender.name, requests)
        server.reset()
