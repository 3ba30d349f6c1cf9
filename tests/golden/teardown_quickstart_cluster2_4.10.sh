#!/bin/sh
# cablectl: teardown cluster2 to cluster1, for Libreswan 4.10. Run as root.
# What is missing already is fine: each command runs, whatever the one before said.

# unlink: routes and device, while what they send is still encrypted
ip route delete 10.44.0.0/16 via 241.18.0.8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip rule delete from all lookup 24141 pref 241 protocol 241
ip link delete dev vxlan-tunnel
nft 'delete table inet cablectl-mss_vxlan-tunnel'

# delete: unload the connections
ipsec whack --delete --name submariner-cable-cluster1-172-18-0-8-0
ipsec whack --delete --name submariner-cable-cluster1-172-18-0-8-1

# forget: the pre-shared key
rm -f /etc/ipsec.d/cablectl-cluster1-172-18-0-8.secrets /etc/ipsec.d/cablectl-cluster1-172-18-0-8.secrets.new
ipsec whack --rereadsecrets

# unguard: at the very last
rm -f /run/cablectl/vxlan-tunnel.guard
nft 'delete table inet cablectl_vxlan-tunnel'
