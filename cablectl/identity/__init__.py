"""Certificates: read, checked, and issued by a small authority."""
