"""fsspill: spill the objects of a Ray cluster to any fsspec URI.

Three ways to use it: installed with Ray, with a URI as ``object_spilling_directory``; as a
library, with `ExternalStorage` and the `InMemoryObjectStore`; from the command line, ``fsspill``.
"""

from fsspill.activation import warn_unless_armed
from fsspill.config import (
    delete_spilled_objects,
    reset_external_storage,
    restore_spilled_objects,
    setup_external_storage,
    spill_objects,
)
from fsspill.errors import (
    ConfigError,
    CorruptObjectError,
    FsspillError,
    InvalidArgumentError,
    MissingPackageError,
    ObjectNotFoundError,
    StorageFullError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageRefusedError,
    StorageUnavailableError,
)
from fsspill.external_storage import ExternalStorage
from fsspill.format.url import ParsedURL, create_url_with_offset, parse_url_with_offset
from fsspill.interface import NullStorage, Storage
from fsspill.metrics import Stats
from fsspill.object_store import InMemoryObjectStore, ObjectStore
from fsspill.settings import Settings

__version__ = "0.1.0"

warn_unless_armed()
del warn_unless_armed

__all__ = [
    "ConfigError",
    "CorruptObjectError",
    "ExternalStorage",
    "FsspillError",
    "InMemoryObjectStore",
    "InvalidArgumentError",
    "MissingPackageError",
    "NullStorage",
    "ObjectNotFoundError",
    "ObjectStore",
    "ParsedURL",
    "Settings",
    "Stats",
    "Storage",
    "StorageFullError",
    "StorageNotFoundError",
    "StoragePermissionError",
    "StorageRefusedError",
    "StorageUnavailableError",
    "__version__",
    "create_url_with_offset",
    "delete_spilled_objects",
    "parse_url_with_offset",
    "reset_external_storage",
    "restore_spilled_objects",
    "setup_external_storage",
    "spill_objects",
]
