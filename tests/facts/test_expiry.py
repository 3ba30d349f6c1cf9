"""How soon a certificate ends, at each limit."""

import pytest

from cablectl.facts.expiry import DAY, Expiry, Role, Urgency

NOW = 1_795_550_000.5


@pytest.mark.parametrize(
    ("seconds", "urgency", "days", "words"),
    [
        (31 * DAY, Urgency.NONE, 30, "in 30 days"),
        (30 * DAY, Urgency.SOON, 29, "in 29 days"),
        (7 * DAY + 1, Urgency.SOON, 7, "in 7 days"),
        (7 * DAY, Urgency.URGENT, 6, "in 6 days"),
        (DAY + 1, Urgency.URGENT, 1, "in 1 day"),
        (DAY, Urgency.URGENT, 0, "within a day"),
        (1, Urgency.URGENT, 0, "within a day"),
        (0, Urgency.EXPIRED, -1, "is expired since 2026-11-24 19:53 UTC"),
    ],
)
def test_how_soon_it_ends(seconds: int, urgency: Urgency, days: int, words: str) -> None:
    expiry = Expiry(Role.GATEWAY, "CN=west", int(NOW) + seconds)
    assert expiry.urgency(NOW) is urgency
    assert expiry.days_left(NOW) == days
    assert expiry.in_words(NOW).startswith("the certificate 'CN=west' ")
    assert expiry.in_words(NOW).endswith(words)


def test_an_authority_is_called_so() -> None:
    told = Expiry(Role.AUTHORITY, "CN=a", int(NOW)).in_words(NOW)
    assert told.startswith("the authority 'CN=a' is expired")
