"""What ``ray.get`` raises for a spilled object that nobody can bring back."""

from __future__ import annotations

from typing import Any

from ray.exceptions import ObjectLostError

from fsspill.errors import FsspillError

__all__ = ["SpilledObjectLostError"]


class SpilledObjectLostError(FsspillError, ObjectLostError):  # type: ignore[misc]
    """A spilled object is gone from its storage, is not what was spilled, or stays out of reach.

    Parameters
    ----------
    object_ref_hex : str
        The object.
    url : str
        Where it was spilled to.
    reason : str
        What is wrong there.
    """

    def __init__(self, object_ref_hex: str, url: str, reason: str) -> None:
        ObjectLostError.__init__(self, object_ref_hex, None, "")
        self.url = url
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.object_ref_hex, self.url, self.reason)

    def __str__(self) -> str:
        return (
            f"object {self.object_ref_hex} was spilled to {self.url} and cannot be restored: "
            f"{self.reason} Make it again (Ray does not do that by itself for spilled objects), "
            "and see that nothing but fsspill deletes or changes files there."
        )
