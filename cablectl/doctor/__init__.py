"""Evidence becomes findings: one function for each check; only collect reads the host."""
