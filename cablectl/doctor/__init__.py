"""Diagnoses a host: turns evidence into findings, one function a check; only collect reads it."""
