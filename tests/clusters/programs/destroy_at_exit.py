"""Spill an object, and destroy the storage while Python exits.

Usage: destroy_at_exit.py URI
"""

import atexit
import sys

from fsspill import ExternalStorage, InMemoryObjectStore


def main() -> None:
    store = InMemoryObjectStore()
    store.put(b"ref", b"some data")
    storage = ExternalStorage(sys.argv[1], object_store=store)
    storage.spill_objects([b"ref"])
    print(len(storage.list_spilled_files()), flush=True)
    atexit.register(storage.destroy_external_storage)


main()
