"""Which of the configured URIs takes a file, on this node."""
