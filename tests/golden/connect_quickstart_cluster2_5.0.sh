#!/bin/sh
# cablectl: connect cluster2 to cluster1, for Libreswan 5.0. Run as root.
set -eu  # stop at the first failure

# guard: nothing of the cable passes without IPsec, in or out
nft 'table inet cablectl_vxlan-tunnel; delete table inet cablectl_vxlan-tunnel; table inet cablectl_vxlan-tunnel { chain in { type filter hook input priority -10; udp dport 4789 @th,96,24 1000 meta secpath missing counter drop comment "cablectl b1858b30 in"; }; chain out { type filter hook output priority -10; udp dport 4789 @th,96,24 1000 rt ipsec missing counter drop comment "cablectl b1858b30 out"; }; }'

# mss: TCP agrees on segments that fit the cable
nft 'table inet cablectl_mss_vxlan-tunnel; delete table inet cablectl_mss_vxlan-tunnel; table inet cablectl_mss_vxlan-tunnel { set remote { type ipv4_addr; flags interval; elements = { 10.44.0.0/16 }; }; chain in { type filter hook prerouting priority -150; ip saddr @remote tcp flags & syn == syn tcp option maxseg size set 1368; }; chain out { type filter hook postrouting priority -150; ip daddr @remote tcp flags & syn == syn tcp option maxseg size set 1368; }; }'

# pluto: the daemon runs
# not needed (pluto is running): systemctl start ipsec

# offload: load the kernel's IPsec modules
pidof pluto
ipsec _stackmanager start
modprobe --all esp4_offload

# secret: the pre-shared key of each pair of gateways
sh -c 'to=$1 from=$2 dir=$3; shift 3; odd=$(find "${to%/*}" "$dir" "$from" -prune "(" ! -type f ! -type d -o -perm -002 -o ! -user 0 ! -user "$(id -u)" ")"); if [ -L "$to" ] || [ -d "$to" ]; then odd=$to; fi; [ ! "$odd" ] || { echo "a link, not of root, or writable by all: $odd" >&2; exit 3; }; key=$(cat -- "$from" | tr -d "\r\n" | od -An -v -tx1 | tr -d " \n"); [ "$key" ] && [ ${#key} -le 1800 ] || { echo "no key of 1 to 900 bytes" >&2; exit 3; }; set -eC; umask 077; trap "rm -f \"\$to.new\"" EXIT; rm -f "$to.new"; for who; do echo "$who : PSK 0x$key"; done >"$to.new"; mv -f "$to.new" "$to"' sh /etc/ipsec.d/cablectl-cluster1-172-18-0-8.secrets /etc/cablectl/psk /etc/cablectl '172.18.0.7 172.18.0.8'
ipsec whack --listen

# add: load the connections
ipsec whack --psk --encrypt --transport --encaps yes --name submariner-cable-cluster1-172-18-0-8-0 --host 172.18.0.7 --clientprotoport udp/4789 --ikeport 4500 --to --host 172.18.0.8 --clientprotoport udp --ikeport 4500 --dpddelay 30
ipsec whack --psk --encrypt --transport --encaps yes --name submariner-cable-cluster1-172-18-0-8-1 --host 172.18.0.7 --clientprotoport udp --ikeport 4500 --to --host 172.18.0.8 --clientprotoport udp/4789 --ikeport 4500 --dpddelay 30

# route: trap policies, from here on what they match is encrypted or dropped
ipsec whack --route --name submariner-cable-cluster1-172-18-0-8-0
ipsec whack --route --name submariner-cable-cluster1-172-18-0-8-1
ip xfrm policy get src 172.18.0.7/32 dst 172.18.0.8/32 proto udp sport 4789 dir out
ip xfrm policy get src 172.18.0.7/32 dst 172.18.0.8/32 proto udp dport 4789 dir out

# initiate: negotiate the SAs
ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-172-18-0-8-0
ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-172-18-0-8-1

# wait: until a Child SA stands for every connection
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-172-18-0-8-0 60
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-172-18-0-8-1 60

# overlay: the device, its address and settings, not up yet
ip link add dev vxlan-tunnel address 02:ca:ac:12:00:07 group 241 mtu 1408 type vxlan id 1000 local 172.18.0.7 dstport 4789 nolearning
ip address add 241.18.0.7/8 dev vxlan-tunnel
bridge fdb append 02:ca:ac:12:00:08 dev vxlan-tunnel dst 172.18.0.8 self permanent
bridge fdb append 00:00:00:00:00:00 dev vxlan-tunnel dst 172.18.0.8 self permanent
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv4/conf/vxlan-tunnel/rp_filter 2
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding 1

# up: the device and its routes
ip link set dev vxlan-tunnel up
ip neigh replace 241.18.0.8 lladdr 02:ca:ac:12:00:08 dev vxlan-tunnel nud permanent
ip route add 10.44.0.0/16 via 241.18.0.8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip rule add from all lookup 24141 pref 241 protocol 241
