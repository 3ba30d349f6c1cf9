"""The description of each field of the file, for `cablectl schema` and the man page.

The model has the allowed values and the defaults. `*` stands for any section.
"""

WORDS = {
    "version": "The version of the file format.",
    "mode": "How IPsec carries the traffic between the endpoints. tunnel: one connection for each"
    " pair of subnets, or an overlay through NAT. transport: the gateways' own packets, such as an"
    " overlay's. none: no IPsec; everything is sent in clear text.",
    "overlay": "What IPsec carries. Required in mode transport, where none means all traffic"
    " between the two hosts. In mode tunnel none means the subnets. In mode none it has to be"
    " vxlan.",
    "allow_cleartext": "Has to be true in mode none, and false in every other mode.",
    "guard": "Whether an nftables table drops packets of the cable that aren't protected by IPsec,"
    " in both directions.",
    "mss": "The largest TCP segment that hosts of the subnets may send through the cable. auto: the"
    " largest that fits the path. off: no limit; then TCP depends on ICMP's fragmentation needed.",
    "health": "Echoes (ICMP) that cablectl watch sends to each peer through the cable. A cable that"
    " is up and brings no echo back is degraded, and is negotiated anew. off: no echoes.",
    "health.interval": "The time between two echoes to a peer.",
    "health.threshold": "After how many echoes in a row without an answer the cable is degraded.",
    "endpoints": "The gateways, each with the subnets of its cluster. Three or more endpoints form"
    " a full mesh: each endpoint has a cable to every other. Only overlay: vxlan"
    " allows a mesh; the devices of the other overlays have one peer.",
    "endpoints[].cluster": "The endpoint's cluster. The connections of the other end contain this"
    " name.",
    "endpoints[].hostname": "The endpoint's host name, for people and for --local.",
    "endpoints[].address": "The endpoint's own address. All addresses and subnets of the file have"
    " the same IP version. In mode tunnel, two endpoints behind NAT may have the same one.",
    "endpoints[].public_address": "The address at which the other end reaches this endpoint through"
    " NAT. It needs mode tunnel.",
    "endpoints[].site": "The site of this endpoint. Endpoints of the same site reach each other at"
    " their own addresses, without NAT. If it is missing, the endpoint shares no site.",
    "endpoints[].subnets": "The cluster's subnets, which are reached through this endpoint. Subnets"
    " must not overlap or contain the gateway of another endpoint. A subnet that is only the"
    " gateway's own address is ignored.",
    "endpoints[].preferred_server": "Whether this endpoint waits for the other end to initiate."
    " null: not stated; then neither end is a server.",
    "endpoints[].ike_port": "The endpoint's IKE port. If it is missing, ipsec.ike_port applies.",
    "endpoints[].health_address": "An address of the gateway within its subnets, to and from which"
    " the echoes go. It needs mode tunnel without an overlay: an overlay's echoes go between the"
    " VTEPs.",
    "ipsec": "How two gateways authenticate and encrypt. Not allowed in mode none.",
    "endpoints[].identity": "The name in the endpoint's certificate by which its peers know it: a"
    " DNS name or an IP address among the subjectAltNames, or the subject as a DN. If it is"
    " missing, hostname applies as a DNS name. Only with auth: cert.",
    "endpoints[].key_type": "The type of the key in the endpoint's certificate. If it is missing,"
    " ipsec.cert.key_type applies. Only with auth: cert.",
    "ipsec.auth": "How two gateways prove who they are. psk: by a pre-shared key. cert: by"
    " certificates, which connect imports into NSS, Libreswan's own store.",
    "ipsec.cert": "Where a gateway's certificate is. The paths are the same on each gateway. Only"
    " with auth: cert.",
    "ipsec.cert.certificate": "The gateway's certificate in PEM, then certificates of intermediate"
    " authorities. If it is missing, /etc/cablectl/cert.pem applies.",
    "ipsec.cert.key": "The key of the certificate in PEM. If it is missing, /etc/cablectl/key.pem"
    " applies.",
    "ipsec.cert.pkcs12": "A PKCS#12 file with certificate and key, instead of both files.",
    "ipsec.cert.passphrase_file": "The file with the passphrase of the PKCS#12 file or of the key,"
    " if it has one.",
    "ipsec.cert.nickname": "The nickname of a certificate that is in NSS already, with its key and"
    " its authority. Then nothing is imported or removed.",
    "ipsec.cert.authority": "The certificates of the authorities that the peers' certificates may"
    " have, in PEM. If it is missing, /etc/cablectl/ca.pem applies.",
    "ipsec.cert.crl": "The authorities' certificate revocation lists, in PEM. If it is missing,"
    " only the lists that NSS has apply.",
    "ipsec.cert.key_type": "The type of the keys in the certificates of the endpoints that have no"
    " key_type of their own.",
    "ipsec.psk": "Where the pre-shared key is: in a file, whose line breaks are ignored, or in an"
    " environment variable. Or the directory with a file for each pair of gateways, named after the"
    " two clusters in sorted order with a + between them.",
    "ipsec.ppk": "Where the PPK is, a second key that also enters the SAs' keys (RFC 8784): in a"
    " file, or in a directory with a file for each pair of gateways, as in psk. Its PPK_ID is the"
    " two clusters in sorted order with a + between them. Without the PPK the peer is refused.",
    "ipsec.ike_port": "The IKE port of both ends.",
    "ipsec.encapsulation": "Whether ESP is sent in UDP (RFC 3948). yes: always. no: never. auto:"
    " only through NAT.",
    "ipsec.ike": "The IKE proposals, each with a cipher, a PRF and a group, such as"
    " aes256-sha2_256;dh19. If they are missing, Libreswan's defaults apply.",
    "ipsec.pfs_group": "The group for perfect forward secrecy, such as modp2048. It requires esp."
    " If it is missing, Libreswan's default applies.",
    "ipsec.esp": "The ESP algorithms, which must encrypt. If they are missing, Libreswan's defaults"
    " apply.",
    "ipsec.esn": "Extended sequence numbers (RFC 4304). auto: the default of each Libreswan. yes:"
    " both with and without ESN are offered, which Libreswan 4 needs to agree with Libreswan 5 or"
    " strongSwan.",
    "ipsec.replay_window": "How many packets may overtake a packet before it is dropped as a"
    " replay. 0: no protection from replays, and no ESN. If it is missing, Libreswan's default"
    " applies, 128 from 4.6 on.",
    "ipsec.ike_lifetime": "After how long an IKE SA ends. It is replaced 9 to 18 minutes before."
    " If it is missing, Libreswan's default applies, 28800 from 4.2 on.",
    "ipsec.sa_lifetime": "After how long a Child SA ends. It is replaced 9 to 18 minutes before."
    " It may be longer than ike_lifetime. In FIPS mode at most 28800. If it is missing,"
    " Libreswan's default applies, 28800.",
    "ipsec.max_bytes": "How many bytes a Child SA carries at most in one direction. It is replaced"
    " before. Libreswan 4.8 and later. If it is missing, there is no such limit.",
    "ipsec.offload": "What the NIC does for ESP. auto: what it supports. required: all"
    " cryptography; connect fails otherwise. packet: whole packets; connect fails otherwise"
    " (Libreswan 5.0 and later). off: nothing. The kernel offloads no ESP in UDP, so offload also"
    " needs encapsulation: no.",
    "ipsec.dpd": "Dead-peer detection (RFC 7296, section 2.4), or off.",
    "ipsec.dpd.delay": "How long the other end is silent before a probe is sent.",
    "ipsec.dpd.action": "What Libreswan 4 does about a dead peer.",
    "ipsec.initiate": "Which end initiates. auto: exactly one end: the client of a server, else the"
    " end behind NAT, else the end with the lower address. both: both ends at once.",
    "vtep": "The addresses inside the overlay.",
    "vtep.network": "The network of the VTEP addresses. A VTEP address is the gateway's address"
    " with the prefix of this network. If it is missing, 241.0.0.0/8 or fdca:b1e0::/32 applies.",
    "vtep.underlay": "The network of the addresses between which the overlay's packets travel in"
    " mode tunnel, made like those of the VTEPs. As large as vtep.network. If it is missing,"
    " 244.0.0.0/8 or fdca:b1e1::/32 applies.",
    "routes": "Where an overlay's routes to the remote subnets are. No other program may use the"
    " table or the priority.",
    "routes.table": "The number of the routing table.",
    "routes.priority": "The priority of the rule that looks up the table. Rules with a lower number"
    " come first.",
    "vxlan": "The device of overlay: vxlan (RFC 7348).",
    "vxlan.port": "The UDP port, or vxlan if /etc/services of both ends has that name. Not 500,"
    " 4500 or an IKE port.",
    "vxlan.forwarding": "Where frames without a forwarding entry go, such as broadcast. static:"
    " nowhere. flood: to every peer. auto: flood for two endpoints, static for more.",
    "geneve": "The device of overlay: geneve (RFC 8926).",
    "geneve.port": "The UDP port. Not 500, 4500 or an IKE port.",
    "gre": "The device of overlay: gre (RFC 2784).",
    "gre.key": "The GRE key (RFC 2890).",
    "ipip": "The device of overlay: ipip, which carries IPv4 in IPv4 (RFC 2003) or IPv6 in IPv6"
    " (RFC 2473).",
    "*.vni": "The virtual network identifier.",
    "*.device": "The name of the network device.",
    "*.mtu": "The largest packet, in bytes. auto: the largest that fits the path.",
}
