"""Bytes in motion between the object store and one storage, in bounded memory."""
