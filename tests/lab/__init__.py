"""The lab: two gateways with a real pluto each, in network namespaces."""
