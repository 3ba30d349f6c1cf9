"""Sends through a cable while a capture runs."""
