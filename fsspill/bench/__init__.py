"""Measurements of a URI on this machine: fsspill, some of its parameters, and Ray's own classes."""
