"""The JSON envelope of every report."""

JSON_VERSION = 1
