"""Copies of spilled files on a disk of the node: bounded, never trusted, never needed."""
