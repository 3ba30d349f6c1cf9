"""Facts of a host as values: what a plan needs to know, divided by cable, or known from traces."""
