"""What a file may ask of the SAs: lifetimes, bytes and the replay window.

Each range is what every release of Libreswan from 4.0 to 5.4 takes and keeps as it is.
"""

from typing import Annotated

from msgspec import Meta

FIPS_SA_LIFETIME = 28800  # seconds; in FIPS mode pluto shortens what is longer

# pluto negotiates anew 540 to 1080 s before the end, and 4.x refuses a lifetime that ends sooner.
Lifetime = Annotated[int, Meta(ge=1081, le=86400, description="seconds, 1081 to 86400")]
MaxBytes = Annotated[
    int,
    Meta(ge=2**20, le=2**63 - 1, description="bytes, 1048576 (1 MiB) to 9223372036854775807"),
]
# The largest is the kernel's: XFRMA_REPLAY_ESN_MAX of linux/xfrm.h.
ReplayWindow = Annotated[int, Meta(ge=0, le=4096, description="packets, 0 to 4096")]
