"""The file, or Submariner's documents, become the model: every problem with its line and field."""
