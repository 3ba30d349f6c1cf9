"""Turns values into scripts, JSON, tables and lines; no other room imports rich."""
