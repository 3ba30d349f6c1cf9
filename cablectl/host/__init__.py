"""Reads this host by subprocess and files; it writes only files that a person names."""
