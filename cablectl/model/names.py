"""What a name in the file may be: of a cluster, a host, a device or an algorithm."""

from typing import Annotated

from msgspec import Meta

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z",
        description="1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit",
    ),
]
# Kubernetes allows 253 characters (RFC 1123 subdomain), and Submariner takes the node's hostname.
Hostname = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z",
        description="1 to 253 of A-Z a-z 0-9 . _ -, the first a letter or digit",
    ),
]
Device = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,14}\Z",
        description="1 to 15 of A-Z a-z 0-9 . _ -, the first a letter or digit",
    ),
]
IkeProposal = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_+-]{0,62}(?:;[a-z0-9][a-z0-9_+-]{0,62})?\Z",
        description="an IKE proposal as Libreswan writes it, such as aes256-sha2_256;dh19",
    ),
]
Algorithm = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z",
        description="an algorithm as Libreswan writes it, such as aes_gcm-null or modp2048",
    ),
]
