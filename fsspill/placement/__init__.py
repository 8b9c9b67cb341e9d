"""Choice of the URI that gets a file, on one node: health, free space, failover."""
