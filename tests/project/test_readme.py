"""What docs/strongswan.md shows is what the lab runs."""

import pytest

from tests.support.places import EXAMPLES, ROOT


@pytest.mark.parametrize("name", ["swanctl.conf", "overlay.sh"])
def test_the_page_shows_the_strongswan_end_word_for_word(name: str) -> None:
    text = (EXAMPLES / "strongswan" / name).read_text()
    assert f"\n{text}```\n" in (ROOT / "docs" / "strongswan.md").read_text()
