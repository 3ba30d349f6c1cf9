#!/bin/sh
# cablectl: connect cluster2 to cluster1. Run as root.
# warning: mode: none: everything on the overlay is sent in clear text
set -eu  # stop at the first failure
failed() { [ "$1" = 0 ] || { echo "cablectl: the phase $at failed with exit code $1; the error is above"; echo "  What the script made before is still there"; echo "  try: cablectl teardown FILE"; } >&2; }
trap 'failed $?' EXIT

# mss: TCP agrees on segments that fit the cable
at='mss'
nft 'table inet cablectl-mss_vxlan-tunnel; delete table inet cablectl-mss_vxlan-tunnel; table inet cablectl-mss_vxlan-tunnel { set remote { type ipv4_addr; flags interval; elements = { 10.44.0.0/16, 100.44.0.0/16 }; }; chain in { type filter hook prerouting priority -150; ip saddr @remote tcp flags & syn == syn tcp option maxseg size set 1410 comment "cablectl 766d71ee in"; }; chain out { type filter hook postrouting priority -150; ip daddr @remote tcp flags & syn == syn tcp option maxseg size set 1410 comment "cablectl 766d71ee out"; }; }'

# overlay: the device, its address and settings, not up yet
at='overlay'
ip link add dev vxlan-tunnel address 02:ca:ac:12:00:07 group 241 mtu 1450 type vxlan id 1000 local 172.18.0.7 dstport 4789 nolearning
ip address add 241.18.0.7/8 dev vxlan-tunnel
bridge fdb append 02:ca:ac:12:00:08 dev vxlan-tunnel dst 172.18.0.8 self permanent
bridge fdb append 00:00:00:00:00:00 dev vxlan-tunnel dst 172.18.0.8 self permanent
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv4/conf/vxlan-tunnel/rp_filter 2
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding 1

# up: the device and its routes
at='up'
ip link set dev vxlan-tunnel up
ip neigh replace 241.18.0.8 lladdr 02:ca:ac:12:00:08 dev vxlan-tunnel nud permanent
ip route add 10.44.0.0/16 via 241.18.0.8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip route add 100.44.0.0/16 via 241.18.0.8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip rule add from all lookup 24141 pref 241 protocol 241
