"""Parameters that have a meaning under Ray only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fsspill.errors import ConfigError
from fsspill.transfer.base import check_number

__all__ = ["RayOptions"]


@dataclass(frozen=True)
class RayOptions:
    """Parameters of type ``fsspec`` that have a meaning under Ray only.

    Attributes
    ----------
    lost_after : float
        Seconds after which an object that cannot be reached counts as lost, on the node that
        needs it: ``ray.get`` raises then instead of waiting longer.
    allow_secrets : bool
        Accept ``storage_options`` that carry secrets, although Ray shows them in process lists.
    """

    lost_after: float = 1800.0
    allow_secrets: bool = False

    def __post_init__(self) -> None:
        check_number("lost_after", self.lost_after, (int, float), at_least=0)
        if not isinstance(self.allow_secrets, bool):
            raise ConfigError(
                f"cannot use allow_secrets={self.allow_secrets!r}: expected True or False."
            )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> RayOptions:
        """Return the options that a configuration sets."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: config["params"][name] for name in names if name in config["params"]})
