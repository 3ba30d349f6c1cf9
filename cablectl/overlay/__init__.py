"""One module for each overlay: its device, addresses, forwarding entries and routes."""
