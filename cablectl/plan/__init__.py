"""Cables and facts become a plan: ordered commands as a value, each with undo and reason."""
