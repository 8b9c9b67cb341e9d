"""The command ``fsspill``."""
