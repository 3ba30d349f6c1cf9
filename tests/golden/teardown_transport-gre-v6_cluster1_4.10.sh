#!/bin/sh
# cablectl: teardown cluster1 to cluster2, for Libreswan 4.10. Run as root.
# What is missing already is fine: each command runs, whatever the one before said.

# unlink: routes and device, while what they send is still encrypted
ip route delete 2001:db8:45::/48 via fdca:b1e0::7 dev gre-tunnel table 24141 metric 100 proto 241
ip -6 rule delete from all lookup 24141 pref 241 protocol 241
ip link delete dev gre-tunnel
nft 'delete table inet cablectl-mss_cluster2-2001-db8--7'

# delete: unload the connections
ipsec whack --delete --name submariner-cable-cluster2-2001-db8--7-0

# forget: the pre-shared key
rm -f /etc/ipsec.d/cablectl-cluster2-2001-db8--7.secrets /etc/ipsec.d/cablectl-cluster2-2001-db8--7.secrets.new
ipsec whack --rereadsecrets

# unguard: at the very last
rm -f /run/cablectl/cluster2-2001-db8--7.guard
nft 'delete table inet cablectl_cluster2-2001-db8--7'
