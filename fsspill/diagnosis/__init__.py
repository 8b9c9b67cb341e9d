"""Checks that tell whether a machine can spill to a URI, and what to do where it cannot."""
