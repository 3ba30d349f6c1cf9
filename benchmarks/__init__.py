"""What cablectl and its cables cost, measured; docs/performance.md has the results."""
