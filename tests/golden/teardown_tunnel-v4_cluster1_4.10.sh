#!/bin/sh
# cablectl: teardown cluster1 to cluster2, for Libreswan 4.10. Run as root.
# What is missing already is fine: each command runs, whatever the one before said.

# unlink: routes and device, while what they send is still encrypted
nft 'delete table inet cablectl-mss_cluster2-172-18-0-7'

# delete: unload the connections
ipsec whack --delete --name submariner-cable-cluster2-172-18-0-7-0-0
ipsec whack --delete --name submariner-cable-cluster2-172-18-0-7-1-0

# forget: the pre-shared key
rm -f /etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets /etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets.new
ipsec whack --rereadsecrets

# unguard: at the very last
rm -f /run/cablectl/cluster2-172-18-0-7.guard
nft 'delete table inet cablectl_cluster2-172-18-0-7'
