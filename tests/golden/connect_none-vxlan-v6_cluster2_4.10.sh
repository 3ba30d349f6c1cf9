#!/bin/sh
# cablectl: connect cluster2 to cluster1. Run as root.
# warning: mode: none: everything on the overlay is sent in clear text
set -eu  # stop at the first failure
failed() { [ "$1" = 0 ] || { echo "cablectl: the phase $at failed with exit code $1; the error is above"; echo "  What the script made before is still there"; echo "  try: cablectl teardown FILE"; } >&2; }
trap 'failed $?' EXIT

# mss: TCP agrees on segments that fit the cable
at='mss'
nft 'table inet cablectl-mss_vxlan-tunnel; delete table inet cablectl-mss_vxlan-tunnel; table inet cablectl-mss_vxlan-tunnel { set remote { type ipv6_addr; flags interval; elements = { 2001:db8:144::/48, 2001:db8:44::/48 }; }; chain in { type filter hook prerouting priority -150; ip6 saddr @remote tcp flags & syn == syn tcp option maxseg size set 1370 comment "cablectl dc178662 in"; }; chain out { type filter hook postrouting priority -150; ip6 daddr @remote tcp flags & syn == syn tcp option maxseg size set 1370 comment "cablectl dc178662 out"; }; }'

# overlay: the device, its address and settings, not up yet
at='overlay'
ip link add dev vxlan-tunnel address 02:ca:96:f1:15:6d group 241 mtu 1430 type vxlan id 1000 local 2001:db8::7 dstport 4789 nolearning
ip address add fdca:b1e0::7/32 dev vxlan-tunnel nodad
bridge fdb append 02:ca:06:4e:08:fc dev vxlan-tunnel dst 2001:db8::8 self permanent
bridge fdb append 00:00:00:00:00:00 dev vxlan-tunnel dst 2001:db8::8 self permanent
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv6/conf/vxlan-tunnel/forwarding 1

# up: the device and its routes
at='up'
ip link set dev vxlan-tunnel up
ip neigh replace fdca:b1e0::8 lladdr 02:ca:06:4e:08:fc dev vxlan-tunnel nud permanent
ip route add 2001:db8:44::/48 via fdca:b1e0::8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip route add 2001:db8:144::/48 via fdca:b1e0::8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip -6 rule add from all lookup 24141 pref 241 protocol 241
