#!/bin/sh
# cablectl: teardown cluster2 to cluster1, for Libreswan 4.10. Run as root.
# What is missing already is fine: each command runs, whatever the one before said.

# unlink: routes and device, while what they send is still encrypted
nft 'delete table inet cablectl-mss_cluster1-172-18-0-8'

# delete: unload the connections
ipsec whack --delete --name submariner-cable-cluster1-172-18-0-8-0-0
ipsec whack --delete --name submariner-cable-cluster1-172-18-0-8-0-1

# forget: the pre-shared key
rm -f /etc/ipsec.d/cablectl-cluster1-172-18-0-8.secrets /etc/ipsec.d/cablectl-cluster1-172-18-0-8.secrets.new
ipsec whack --rereadsecrets

# unguard: at the very last
rm -f /run/cablectl/cluster1-172-18-0-8.guard
nft 'delete table inet cablectl_cluster1-172-18-0-8'
