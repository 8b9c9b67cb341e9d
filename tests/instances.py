"""Filesystems that fsspec keeps with the environment in which they were made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec


@contextmanager
def forgotten(protocol: str) -> Iterator[None]:
    """Forget the filesystems of a protocol for the block, and those made in it afterwards.

    Its environment names a server or credentials of its own, and fsspec would return a filesystem
    that was made with others.
    """
    cls = fsspec.get_filesystem_class(protocol)
    cls.clear_instance_cache()
    try:
        yield
    finally:
        cls.clear_instance_cache()
