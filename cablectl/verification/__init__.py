"""What was sent, captured and counted becomes claims; only observe reads the host."""
