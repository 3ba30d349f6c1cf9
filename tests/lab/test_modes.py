"""Every mode and overlay, IPv4 and IPv6, with the installed program on two real gateways."""

from __future__ import annotations

import pytest

from tests.documents import document, shaped

from .gateways import Lab
from .traffic import up_and_away

pytestmark = pytest.mark.lab

SHAPES = (
    "tunnel v4",
    "tunnel v6",
    "tunnel v4 server",
    "transport vxlan v4 server",
    "transport vxlan v6",
    "transport gre v4",
    "transport gre v6",
    "transport geneve v4",
    "transport geneve v6",
    "transport none v4",
    "transport none v6",
    "none vxlan v4",
    "none vxlan v6",
)


@pytest.mark.parametrize("shape", SHAPES)
def test_up_and_away(lab: Lab, shape: str) -> None:
    cables = (shaped(shape, end) for end in ("cluster1", "cluster2"))
    up_and_away(lab, tuple(zip(lab.gateways, cables, strict=True)), document(shape))
