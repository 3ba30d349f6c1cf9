"""What echoes tell of a cable, as a value."""

from msgspec.structs import replace

from cablectl.status.report import Health, HealthState

ANSWERING = HealthState(
    health=Health.ANSWERING,
    dead=None,
    silent_for=None,
    source="241.18.0.8",
    target="241.18.0.7",
    interval=5,
    sent=160,
    answered=157,
    window=100,
    loss=0.03,
    rtt_last=0.0501,
    rtt_mean=0.05034,
    jitter=0.00021,
)
SILENT = replace(ANSWERING, health=Health.SILENT, silent_for=77, loss=0.13)
UNANSWERING = replace(
    ANSWERING,
    health=Health.UNANSWERING,
    answered=0,
    loss=1.0,
    rtt_last=None,
    rtt_mean=None,
    jitter=None,
)
UNKNOWN = replace(UNANSWERING, health=Health.UNKNOWN, sent=1, window=0, loss=None)
HEALTHS = (ANSWERING, SILENT, UNANSWERING, UNKNOWN)
