"""Submariner's documents, as kubectl prints them, become the same model."""
