"""Sessions under a URI, and removal of those that are dead."""
