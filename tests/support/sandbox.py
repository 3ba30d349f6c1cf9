"""What the unit may be exposed to."""

MAX_EXPOSURE = 2.5  # of 10, what `systemd-analyze security` says
