"""What Libreswan takes and prints: dialects, whack's commands, parsers, the secrets file."""
