"""The kernel and its tools: commands and parsers for xfrm, nftables, overlays, MTU and offload."""
