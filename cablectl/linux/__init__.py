"""What the kernel and its tools take and print: xfrm, nftables, overlays, routes, MTU, offload."""
