"""When the certificates of a gateway end, and how soon that is."""

from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct

DAY = 86400  # seconds
SOON, URGENT = 30, 7  # days before the end, when status and doctor warn


class Role(StrEnum):
    """Whose certificate it is: the gateway's own, or that of an authority above it."""

    GATEWAY = "gateway"
    AUTHORITY = "authority"


class Urgency(StrEnum):
    """How soon a certificate ends."""

    NONE = "none"
    SOON = "soon"
    URGENT = "urgent"
    EXPIRED = "expired"


class Expiry(Struct, frozen=True):
    """The end of a certificate, in seconds since 1970."""

    role: Role
    subject: str
    not_after: int

    def urgency(self, now: float) -> Urgency:
        """Return how soon it ends."""
        left = self.not_after - now
        if left < 0:
            return Urgency.EXPIRED
        if left <= URGENT * DAY:
            return Urgency.URGENT
        return Urgency.SOON if left <= SOON * DAY else Urgency.NONE

    def days_left(self, now: float) -> int:
        """Return the number of whole days until its end; negative after it."""
        return int((self.not_after - now) // DAY)

    def in_words(self, now: float) -> str:
        """Return which certificate ends when."""
        what = "certificate" if self.role is Role.GATEWAY else "authority"
        date = f"{datetime.fromtimestamp(self.not_after, UTC):%Y-%m-%d %H:%M} UTC"
        if self.urgency(now) is Urgency.EXPIRED:
            return f"the {what} '{self.subject}' is expired since {date}"
        return f"the {what} '{self.subject}' ends {date}, {_in_days(self.days_left(now))}"


def _in_days(number: int) -> str:
    return "within a day" if number == 0 else f"in {number} {'day' if number == 1 else 'days'}"
