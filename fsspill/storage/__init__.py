"""One filesystem: how a URI is reached, addressed and talked to."""
