"""Sends packets through a cable while a capture runs."""
