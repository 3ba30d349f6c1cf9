"""Overlays: one file for each kind, one protocol, one registry."""
