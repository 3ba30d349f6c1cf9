"""Reads Submariner's documents, as kubectl prints them, into the same model."""
