"""fsspill beside Ray's own storage classes: ``python -m tests.benchmarks``."""
