#!/bin/sh
set -eu
ip link add dev vxlan-tunnel address 02:ca:ac:12:00:07 mtu 1408 \
    type vxlan id 1000 local 172.18.0.7 dstport 4789 nolearning
ip address add 241.18.0.7/8 dev vxlan-tunnel
bridge fdb append 02:ca:ac:12:00:08 dev vxlan-tunnel dst 172.18.0.8 self permanent
bridge fdb append 00:00:00:00:00:00 dev vxlan-tunnel dst 172.18.0.8 self permanent
echo 1 >/proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding
ip link set dev vxlan-tunnel up
ip neigh add 241.18.0.8 lladdr 02:ca:ac:12:00:08 dev vxlan-tunnel nud permanent
ip route add 10.44.0.0/16 via 241.18.0.8 dev vxlan-tunnel
