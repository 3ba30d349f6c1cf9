"""A command as a value: its words, never a string for a shell."""

Argv = tuple[str, ...]
