"""What tests have in common: files in every shape, facts of hosts, stand-ins, processes."""
