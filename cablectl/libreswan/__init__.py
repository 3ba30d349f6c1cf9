"""Libreswan's input and output: dialects, whack commands, parsers, the secrets file."""
