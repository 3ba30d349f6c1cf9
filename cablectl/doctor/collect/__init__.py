"""Collects evidence from this host and from the peer's ports; changes nothing."""
