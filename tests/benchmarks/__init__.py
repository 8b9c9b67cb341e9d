"""Benchmarks of fsspill and of Ray's own storage classes: ``python -m tests.benchmarks``."""
