"""The error that ``ray.get`` raises for a spilled object that cannot be restored."""

from __future__ import annotations

from typing import Any

from ray.exceptions import ObjectLostError

from fsspill.errors import FsspillError
from fsspill.secrets import redact

__all__ = ["SpilledObjectLostError"]


class SpilledObjectLostError(FsspillError, ObjectLostError):  # type: ignore[misc]
    """A spilled object is missing from its storage, is corrupt there, or stays unreachable.

    Parameters
    ----------
    object_ref_hex : str
        The object.
    url : str
        The URL that it was spilled to.
    reason : str
        What is wrong with the file there.
    """

    # Its public name: Ray pickles it, and another version of fsspill may load it.
    __module__ = "fsspill.ray"

    def __init__(self, object_ref_hex: str, url: str, reason: str) -> None:
        ObjectLostError.__init__(self, object_ref_hex, None, "")
        self.url = url
        self.reason = redact(reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.object_ref_hex, self.url, self.reason)

    def __str__(self) -> str:
        return (
            f"object {self.object_ref_hex} was spilled to {self.url} and cannot be restored: "
            f"{self.reason} Create it again (Ray does not reconstruct spilled objects), and make "
            "sure that nothing but fsspill deletes or changes files there."
        )
