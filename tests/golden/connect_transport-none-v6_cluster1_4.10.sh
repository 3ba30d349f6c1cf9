#!/bin/sh
# cablectl: connect cluster1 to cluster2, for Libreswan 4.10. Run as root.
set -eu  # stop at the first failure
pidof pluto >/dev/null || { echo "cablectl: pluto isn't running; try: sudo systemctl start ipsec" >&2; exit 3; }
failed() { [ "$1" = 0 ] || { echo "cablectl: the phase $at failed with exit code $1; the error is above"; echo "  What the script made before is still there, also the guard: nft delete table inet cablectl_cluster2-2001-db8--7"; echo "  try: cablectl teardown FILE"; } >&2; }
trap 'failed $?' EXIT

# guard: nothing of the cable passes without IPsec, in or out
at='guard'
nft 'table inet cablectl_cluster2-2001-db8--7; delete table inet cablectl_cluster2-2001-db8--7; table inet cablectl_cluster2-2001-db8--7 { chain in { type filter hook prerouting priority -110; ip6 saddr 2001:db8::7 ip6 daddr 2001:db8::8 meta l4proto esp accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::7 ip6 daddr 2001:db8::8 udp dport { 500, 4500 } accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::7 ip6 daddr 2001:db8::8 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::7 ip6 daddr 2001:db8::8 meta ipsec missing counter drop comment "cablectl 1853e0c6 in"; }; chain out { type filter hook postrouting priority 110; ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 meta l4proto esp accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 udp dport { 500, 4500 } accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } accept comment "cablectl 1853e0c6 accept"; ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 rt ipsec missing counter drop comment "cablectl 1853e0c6 out"; }; chain reassemble { ct state new comment "cablectl 1853e0c6 all"; }; }'

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
sh -c 'odd() { file=$1 dir=${1%/*}; at=$dir; set -- /; while at=${at%/*}; [ "$at" ]; do set -- "$@" "$at"; done; find "$@" -prune "(" ! -type d -o ! -user 0 ! -user "$(id -u)" -o ! -perm -1000 "(" -perm -002 -o -perm -020 ! -group 0 ")" ")"; set -- "${dir:-/}"; if [ -e "$file" ] || [ -L "$file" ]; then set -- "$@" "$file"; fi; find "$@" -prune "(" ! -type f ! -type d -o ! -user 0 ! -user "$(id -u)" -o "(" -perm -002 -o -perm -020 ! -group 0 ")" ")"; }; to=$1 from=$2; shift 2; found=$(odd "$to"; odd "$from"); [ ! -d "$to" ] || found=$to; [ ! "$found" ] || { echo "a link, not of root, or writable by others: $found" >&2; exit 3; }; key=$(cat -- "$from" | tr -d "\r\n" | od -An -v -tx1 | tr -d " \n"); [ "$key" ] && [ ${#key} -le 1800 ] || { echo "no key of 1 to 900 bytes" >&2; exit 3; }; set -eC; umask 077; trap "rm -f \"\$to.new\"" EXIT; rm -f "$to.new"; for who; do echo "$who : PSK 0x$key"; done >"$to.new"; mv -f "$to.new" "$to"' sh /etc/ipsec.d/cablectl-cluster2-2001-db8--7.secrets /etc/cablectl/psk '2001:db8::8 2001:db8::7'
ipsec whack --listen

# add: load the connections
at='add'
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster2-2001-db8--7-0 --host 2001:db8::8 --ikeport 4500 --updown %disabled --to --host 2001:db8::7 --ikeport 4500 --dpdaction hold --dpddelay 30

# route: trap policies, from here on what they match is encrypted or dropped
at='route'
# not needed (without SAs the guard drops the packets): ipsec whack --route --name submariner-cable-cluster2-2001-db8--7-0
# not needed (without SAs the guard drops the packets): ip xfrm policy get src 2001:db8::8/128 dst 2001:db8::7/128 dir out

# initiate: negotiate the SAs
at='initiate'
# not needed (cluster2 initiates): ipsec whack --initiate --asynchronous --name submariner-cable-cluster2-2001-db8--7-0

# wait: until a Child SA stands for every connection
at='wait'
sh -c 'i=0; until ipsec whack --trafficstatus | grep -F "\"$1\"" | grep -qF "type=ESP"; do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done' sh submariner-cable-cluster2-2001-db8--7-0 60
