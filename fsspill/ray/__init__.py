"""The side that faces Ray."""

from fsspill.ray.head import install, is_installed

__all__ = ["install", "is_installed"]
