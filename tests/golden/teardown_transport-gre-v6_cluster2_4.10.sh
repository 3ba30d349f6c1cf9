#!/bin/sh
# cablectl: teardown cluster2 to cluster1, for Libreswan 4.10. Run as root.
# What is missing already is fine: each command runs, whatever the one before said.

# unlink: routes and device, while what they send is still encrypted
ip route delete 2001:db8:44::/48 via fdca:b1e0::8 dev gre-tunnel table 24141 metric 100 proto 241
ip route delete 2001:db8:144::/48 via fdca:b1e0::8 dev gre-tunnel table 24141 metric 100 proto 241
ip -6 rule delete from all lookup 24141 pref 241 protocol 241
ip link delete dev gre-tunnel
nft 'delete table inet cablectl-mss_cluster1-2001-db8--8'

# delete: unload the connections
ipsec whack --delete --name submariner-cable-cluster1-2001-db8--8-0

# forget: the pre-shared key
rm -f /etc/ipsec.d/cablectl-cluster1-2001-db8--8.secrets /etc/ipsec.d/cablectl-cluster1-2001-db8--8.secrets.new
ipsec whack --rereadsecrets

# unguard: at the very last
rm -f /run/cablectl/cluster1-2001-db8--8.guard
nft 'delete table inet cablectl_cluster1-2001-db8--8'
