"""What a file may say of the echoes through a cable."""

from typing import Annotated

from msgspec import Meta, Struct


class HealthCheck(Struct, frozen=True):
    """Every `interval` seconds an echo request goes to the peer; an answer proves both directions.

    After `threshold` echoes in a row without an answer the cable is degraded.
    """

    interval: Annotated[int, Meta(ge=1, le=3600, description="seconds, 1 to 3600")] = 5
    threshold: Annotated[int, Meta(ge=1, le=100, description="echoes, 1 to 100")] = 3
