"""Reads the file, or Submariner's documents, into the model; reports problems by line and field."""
