"""Changes the host, only by running a plan: commands by sh, undo, journal, signals."""
