"""Measures the cost of cablectl and of its cables; docs/performance.md has the results."""
