"""Reads this host, by subprocess and files, and changes nothing but files that a person names."""
