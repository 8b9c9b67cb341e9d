"""A process that spills an object and restores it; its one argument is JSON for `main`.

Prints nothing, and ends with status 0 if every byte came back.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

from fsspill import ExternalStorage, InMemoryObjectStore


def main(uri: str, nbytes: int, **arguments: Any) -> None:
    """Spill one object, and restore it."""
    store = InMemoryObjectStore()
    node = str(os.getpid())
    storage = ExternalStorage(
        uri, node_id=node, session_name="slow", object_store=store, **arguments
    )
    data = random.Random(node).randbytes(nbytes)
    store.put(b"ref", data)
    urls = storage.spill_objects([b"ref"])
    store.delete(b"ref")
    storage.restore_spilled_objects([b"ref"], urls)
    assert store.get(b"ref") == data
    storage.delete_spilled_objects(urls)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
