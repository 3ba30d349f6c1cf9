"""Proves that a cable encrypts: turns counters and captures into claims; only observe reads."""
