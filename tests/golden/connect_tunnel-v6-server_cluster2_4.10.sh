#!/bin/sh
# cablectl: connect cluster2 to cluster1, for Libreswan 4.10. Run as root.
set -eu  # stop at the first failure

# guard: nothing of the cable passes without IPsec, in or out
nft 'table inet cablectl_cluster1-2001-db8--8; delete table inet cablectl_cluster1-2001-db8--8; table inet cablectl_cluster1-2001-db8--8 { chain in { type filter hook input priority -10; ip6 saddr { 2001:db8:44::/48, 2001:db8:144::/48 } ip6 daddr { 2001:db8:45::/48 } meta secpath missing counter drop comment "cablectl a9fefb6b in"; }; chain out { type filter hook output priority -10; ip6 saddr { 2001:db8:45::/48 } ip6 daddr { 2001:db8:44::/48, 2001:db8:144::/48 } rt ipsec missing counter drop comment "cablectl a9fefb6b out"; }; chain forward { type filter hook forward priority -10; ip6 saddr { 2001:db8:44::/48, 2001:db8:144::/48 } ip6 daddr { 2001:db8:45::/48 } meta secpath missing counter drop comment "cablectl a9fefb6b in"; ip6 saddr { 2001:db8:45::/48 } ip6 daddr { 2001:db8:44::/48, 2001:db8:144::/48 } rt ipsec missing counter drop comment "cablectl a9fefb6b out"; }; }'

# mss: TCP agrees on segments that fit the cable
nft 'table inet cablectl_mss_cluster1-2001-db8--8; delete table inet cablectl_mss_cluster1-2001-db8--8; table inet cablectl_mss_cluster1-2001-db8--8 { set remote { type ipv6_addr; flags interval; elements = { 2001:db8:144::/48, 2001:db8:44::/48 }; }; chain in { type filter hook prerouting priority -150; ip6 saddr @remote tcp flags & syn == syn tcp option maxseg size set 1358; }; chain out { type filter hook postrouting priority -150; ip6 daddr @remote tcp flags & syn == syn tcp option maxseg size set 1358; }; }'

# pluto: the daemon runs
# not needed (pluto is running): systemctl start ipsec

# offload: load the kernel's IPsec modules
pidof pluto
ipsec _stackmanager start
modprobe --all esp6_offload

# secret: the pre-shared key of each pair of gateways
sh -c 'to=$1 from=$2 dir=$3; shift 3; odd=$(find "${to%/*}" "$dir" "$from" -prune "(" ! -type f ! -type d -o -perm -002 -o ! -user 0 ! -user "$(id -u)" ")"); if [ -L "$to" ] || [ -d "$to" ]; then odd=$to; fi; [ ! "$odd" ] || { echo "a link, not of root, or writable by all: $odd" >&2; exit 3; }; key=$(cat -- "$from" | tr -d "\r\n" | od -An -v -tx1 | tr -d " \n"); [ "$key" ] && [ ${#key} -le 1800 ] || { echo "no key of 1 to 900 bytes" >&2; exit 3; }; set -eC; umask 077; trap "rm -f \"\$to.new\"" EXIT; rm -f "$to.new"; for who; do echo "$who : PSK 0x$key"; done >"$to.new"; mv -f "$to.new" "$to"' sh /etc/ipsec.d/cablectl-cluster1-2001-db8--8.secrets /etc/cablectl/psk /etc/cablectl '@2001:db8::7-0-0 @2001:db8::8-0-0' '@2001:db8::7-0-1 @2001:db8::8-1-0'
ipsec whack --listen

# add: load the connections
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster1-2001-db8--8-0-0 --id @2001:db8::7-0-0 --host 2001:db8::7 --client 2001:db8:45::/48 --ikeport 4500 --to --id @2001:db8::8-0-0 --host %any --client 2001:db8:44::/48 --dpdaction hold --dpddelay 30
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster1-2001-db8--8-0-1 --id @2001:db8::7-0-1 --host 2001:db8::7 --client 2001:db8:45::/48 --ikeport 4500 --to --id @2001:db8::8-1-0 --host %any --client 2001:db8:144::/48 --dpdaction hold --dpddelay 30

# initiate: negotiate the SAs
# not needed (cluster1 initiates): ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-2001-db8--8-0-0
# not needed (cluster1 initiates): ipsec whack --initiate --asynchronous --name submariner-cable-cluster1-2001-db8--8-0-1

# wait: until a Child SA stands for every connection
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-2001-db8--8-0-0 60
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster1-2001-db8--8-0-1 60
