"""Bytes only: frames, URLs, digests, compression, and the plans of files and ranges. No I/O."""
