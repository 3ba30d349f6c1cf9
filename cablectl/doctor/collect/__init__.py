"""Evidence collectors: read this host and ask the peer's ports; they change nothing."""
