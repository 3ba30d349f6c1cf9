"""Packet filters of other programs: their rules, and whether a packet passes them."""
