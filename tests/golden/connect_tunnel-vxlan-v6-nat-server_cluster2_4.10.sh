#!/bin/sh
# cablectl: connect cluster2 to cluster1, for Libreswan 4.10. Run as root.
set -eu  # stop at the first failure
pidof pluto >/dev/null || { echo "cablectl: pluto isn't running; try: sudo systemctl start ipsec" >&2; exit 3; }
failed() { [ "$1" = 0 ] || { echo "cablectl: the phase $at failed with exit code $1; the error is above"; echo "  What the script made before is still there, also the guard: nft delete table inet cablectl_vxlan-tunnel"; echo "  try: cablectl teardown FILE"; } >&2; }
trap 'failed $?' EXIT

# guard: nothing of the cable passes without IPsec, in or out
at='guard'
nft 'table inet cablectl_vxlan-tunnel; delete table inet cablectl_vxlan-tunnel; table inet cablectl_vxlan-tunnel { set remote { type ipv6_addr; flags interval; elements = { 2001:db8:44::/48, 2001:db8:144::/48, fdca:b1e0::8 }; }; set peers { type ipv6_addr; elements = { fdca:b1e1::8 }; }; chain in { type filter hook prerouting priority -110; ip6 saddr @remote iifname != "vxlan-tunnel" counter drop comment "cablectl 3aa4c258 in"; udp dport 4789 @th,96,24 1000 meta ipsec missing counter drop comment "cablectl 3aa4c258 in"; udp dport 4789 @th,96,24 1000 ip6 saddr != @peers counter drop comment "cablectl 3aa4c258 in"; }; chain through { type filter hook forward priority -500; ip6 daddr @peers udp dport 4789 @th,96,24 1000 counter drop comment "cablectl 3aa4c258 out"; ip6 saddr @peers udp dport 4789 @th,96,24 1000 drop comment "cablectl 3aa4c258 decrypted"; }; chain local { type filter hook output priority -500; udp dport 4789 @th,96,24 1000 rt ipsec missing counter drop comment "cablectl 3aa4c258 out"; ip6 daddr @peers udp dport 4789 @th,96,24 1000 meta mark & 0x1000 == 0 counter drop comment "cablectl 3aa4c258 out"; ip6 saddr fdca:b1e1::7 ip6 daddr @peers udp dport 4789 @th,96,24 1000 notrack comment "cablectl 3aa4c258 own"; }; chain own { type filter hook postrouting priority 500; oifname "vxlan-tunnel" meta mark set meta mark | 0x1000 comment "cablectl 3aa4c258 own"; }; chain out { type filter hook postrouting priority 110; ip6 daddr @remote oifname != "vxlan-tunnel" counter drop comment "cablectl 3aa4c258 out"; ip6 daddr @peers udp dport 4789 @th,96,24 1000 rt ipsec missing counter drop comment "cablectl 3aa4c258 out"; }; chain reassemble { ct state new comment "cablectl 3aa4c258 all"; }; }'

# mss: TCP agrees on segments that fit the cable
at='mss'
nft 'table inet cablectl-mss_vxlan-tunnel; delete table inet cablectl-mss_vxlan-tunnel; table inet cablectl-mss_vxlan-tunnel { set remote { type ipv6_addr; flags interval; elements = { 2001:db8:144::/48, 2001:db8:44::/48 }; }; chain in { type filter hook prerouting priority -150; ip6 saddr @remote tcp flags & syn == syn tcp option maxseg size set 1288 comment "cablectl 16eccfcf in"; }; chain out { type filter hook postrouting priority -150; ip6 daddr @remote tcp flags & syn == syn tcp option maxseg size set 1288 comment "cablectl 16eccfcf out"; }; }'

# pluto: the daemon runs
at='pluto'
# not needed (pluto is running): systemctl start ipsec

# offload: load the kernel's IPsec modules
at='offload'
pidof pluto
ipsec _stackmanager start
modprobe --all esp6_offload

# secret: the pre-shared key of each pair of gateways
at='secret'
sh -c 'odd() { file=$1 dir=${1%/*}; at=$dir; set -- /; while at=${at%/*}; [ "$at" ]; do set -- "$@" "$at"; done; find "$@" -prune "(" ! -type d -o ! -user 0 ! -user "$(id -u)" -o ! -perm -1000 "(" -perm -002 -o -perm -020 ! -group 0 ")" ")"; set -- "${dir:-/}"; if [ -e "$file" ] || [ -L "$file" ]; then set -- "$@" "$file"; fi; find "$@" -prune "(" ! -type f ! -type d -o ! -user 0 ! -user "$(id -u)" -o "(" -perm -002 -o -perm -020 ! -group 0 ")" ")"; }; to=$1 from=$2; shift 2; found=$(odd "$to"; odd "$from"); [ ! -d "$to" ] || found=$to; [ ! "$found" ] || { echo "a link, not of root, or writable by others: $found" >&2; exit 3; }; key=$(cat -- "$from" | tr -d "\r\n" | od -An -v -tx1 | tr -d " \n"); [ "$key" ] && [ ${#key} -le 1800 ] || { echo "no key of 1 to 900 bytes" >&2; exit 3; }; set -eC; umask 077; trap "rm -f \"\$to.new\"" EXIT; rm -f "$to.new"; for who; do echo "$who : PSK 0x$key"; done >"$to.new"; mv -f "$to.new" "$to"' sh /etc/ipsec.d/cablectl-cluster1-2001-db8--8.secrets /etc/cablectl/psk '@cluster2-0 @cluster1-1' '@cluster2-1 @cluster1-0'
ipsec whack --listen

# add: load the connections
at='add'
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster1-2001-db8--8-0 --id @cluster2-0 --host 2001:db8::7 --client fdca:b1e1::7/128 --clientprotoport udp/4789 --ikeport 4500 --updown %disabled --to --id @cluster1-1 --host %any --client fdca:b1e1::8/128 --clientprotoport udp --dpdaction hold --dpddelay 30
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster1-2001-db8--8-1 --id @cluster2-1 --host 2001:db8::7 --client fdca:b1e1::7/128 --clientprotoport udp --ikeport 4500 --updown %disabled --to --id @cluster1-0 --host %any --client fdca:b1e1::8/128 --clientprotoport udp/4789 --dpdaction hold --dpddelay 30

# initiate: negotiate the SAs
at='initiate'
# not needed (cluster1 initiates): ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-2001-db8--8-0
# not needed (cluster1 initiates): ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-2001-db8--8-1

# wait: until a Child SA stands for every connection
at='wait'
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-2001-db8--8-0 60
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-2001-db8--8-1 60

# overlay: the device, its address and settings, not up yet
at='overlay'
ip link add dev vxlan-tunnel address 02:ca:dd:d8:58:7e group 241 mtu 1348 type vxlan id 1000 local fdca:b1e1::7 dstport 4789 nolearning
ip address add fdca:b1e1::7/128 dev vxlan-tunnel nodad
ip address add fdca:b1e0::7/32 dev vxlan-tunnel nodad
bridge fdb append 02:ca:4d:67:45:ef dev vxlan-tunnel dst fdca:b1e1::8 self permanent
bridge fdb append 00:00:00:00:00:00 dev vxlan-tunnel dst fdca:b1e1::8 self permanent
sh -c 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]' sh /proc/sys/net/ipv6/conf/vxlan-tunnel/forwarding 1

# up: the device and its routes
at='up'
ip route add blackhole fdca:b1e1::/32 table 24141 metric 100 proto 241
ip -6 rule add from all lookup 24141 pref 241 protocol 241
ip link set dev vxlan-tunnel up
ip neigh replace fdca:b1e0::8 lladdr 02:ca:4d:67:45:ef dev vxlan-tunnel nud permanent
ip route add fdca:b1e1::8/128 via fdca:b1e1::8 dev vxlan-tunnel table 24141 metric 100 proto 241 onlink mtu 65535 src fdca:b1e1::7
ip route add 2001:db8:44::/48 via fdca:b1e0::8 dev vxlan-tunnel table 24141 metric 100 proto 241
ip route add 2001:db8:144::/48 via fdca:b1e0::8 dev vxlan-tunnel table 24141 metric 100 proto 241
