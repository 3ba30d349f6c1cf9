"""What each field of the file is, in words: for `cablectl schema` and the man page.

What is allowed and the default are the model's. `*` stands for any section.
"""

WORDS = {
    "version": "The version of this format.",
    "mode": "How IPsec carries the traffic between the endpoints. tunnel: one connection for each"
    " pair of subnets. transport: the hosts' own packets, such as those of an overlay. none: no"
    " IPsec, everything in clear text.",
    "overlay": "What travels inside of IPsec transport mode. Needed in mode transport, where none"
    " stands for all that the two hosts say to each other; in mode none it is vxlan.",
    "allow_cleartext": "Has to be true for mode none, and false for any other.",
    "guard": "Whether an nftables table drops what of the cable has no IPsec, in and out.",
    "endpoints": "The gateways, each with the subnets of its cluster. More than two are a mesh,"
    " in which each has a cable to every other; not with gre or geneve, whose device has one peer.",
    "endpoints[].cluster": "Its cluster, which names the connections of the other end.",
    "endpoints[].hostname": "Its host name, for people and for --local.",
    "endpoints[].address": "Its own address. Both ends and all subnets are of one version of IP.",
    "endpoints[].public_address": "What the other end reaches instead where there is NAT; for mode"
    " tunnel alone.",
    "endpoints[].subnets": "The cluster's subnets, reached through it. None overlaps another or"
    " holds a gateway; one that is just the gateway's own address is left out.",
    "endpoints[].preferred_server": "Whether it waits for the other end to begin. null: it doesn't"
    " say, and neither end is a server.",
    "endpoints[].ike_port": "Its IKE port; without it that of ipsec.",
    "ipsec": "How two gateways authenticate and encrypt; not used in mode none.",
    "ipsec.psk": "Where the pre-shared key is: in a file, whose line ends are left out, or in an"
    " environment variable.",
    "ipsec.ike_port": "The IKE port of both ends.",
    "ipsec.encapsulation": "Whether ESP travels in UDP (RFC 3948): yes, no, or auto, only where"
    " there is NAT.",
    "ipsec.pfs_group": "The group of perfect forward secrecy, such as modp2048; only with esp."
    " Without it Libreswan's own.",
    "ipsec.esp": "The algorithms of ESP. Without them Libreswan's own.",
    "ipsec.esn": "Extended sequence numbers (RFC 4304). auto: as each Libreswan has it. yes:"
    " offered with and without, which a 4.x needs to agree with a 5.x or with strongSwan.",
    "ipsec.offload": "What the NIC does of ESP. auto: what it can. required: all the cryptography,"
    " or no cable. packet: whole packets, or no cable (Libreswan 5.0 and later). off: nothing. The"
    " kernel offloads no ESP in UDP, so it takes encapsulation: no.",
    "ipsec.dpd": "Dead-peer detection (RFC 7296, section 2.4), or off.",
    "ipsec.dpd.delay": "How long nothing is heard from the other end before it is asked.",
    "ipsec.dpd.action": "What Libreswan 4.x does about a dead peer.",
    "ipsec.initiate": "Which end begins. auto: one, the client of a server, else the one behind"
    " NAT, else the one with the lower address. both: both at once.",
    "vtep": "The overlay's own addresses.",
    "vtep.network": "Where VTEPs have their addresses: the gateway's own, with this network's bits"
    " in front. Without it 241.0.0.0/8 or fdca:b1e0::/32.",
    "vxlan": "The device of overlay: vxlan (RFC 7348).",
    "vxlan.port": "Its UDP port, or vxlan where /etc/services of both knows the name; not 500, 4500"
    " or an IKE port.",
    "vxlan.forwarding": "Where a frame without an entry of its own goes, such as broadcast. static:"
    " nowhere. flood: to every peer. auto: flood for two endpoints, static for more.",
    "geneve": "The device of overlay: geneve (RFC 8926).",
    "geneve.port": "Its UDP port; not 500, 4500 or an IKE port.",
    "gre": "The device of overlay: gre (RFC 2784).",
    "gre.key": "Its key (RFC 2890).",
    "ipip": "The device of overlay: ipip, which carries IPv4 in IPv4 (RFC 2003) or IPv6 in IPv6"
    " (RFC 2473).",
    "*.vni": "Its virtual network identifier.",
    "*.device": "The name of the device.",
    "*.mtu": "The largest packet, in bytes; auto: the largest that fits the path.",
}
