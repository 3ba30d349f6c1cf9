"""What the benchmarks calculate and draw, by numbers that can be checked by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import bars, internet

COSTS = internet.Costs(pluto=1000, connection=10, ike_sa=7, child_sa=5, sa=3, policy=2)
# Renewed after 1000 - 100 * (1 + 0.5 / 2) = 875 s.
LIVES = internet.Lifetimes(ike=1000, child=1000, margin=100, fuzz=0.5, dpd=10)


def test_what_a_gateway_of_a_mesh_has() -> None:
    mesh = internet.gateway(7, COSTS, LIVES)
    assert (mesh.connections, mesh.ike_sas, mesh.sas, mesh.policies) == (14, 7, 28, 28)
    assert mesh.pluto == 1000 + 7 * 7 + 14 * 15
    assert mesh.kernel == 28 * 3 + 28 * 2


def test_what_a_gateway_of_a_mesh_has_to_do() -> None:
    mesh = internet.gateway(7, COSTS, LIVES)
    assert mesh.ike_rekeys == pytest.approx(7 / 875)
    assert mesh.child_rekeys == pytest.approx(14 / 875)
    assert mesh.messages == pytest.approx(4 * 21 / 875)
    assert mesh.dpd_messages == pytest.approx(7 * 2 * 2 / 10)
    assert mesh.start == 7 * 6


def test_one_connection_a_cable_with_three_policies() -> None:
    mesh = internet.gateway(7, COSTS, LIVES, connections=1, policies=3)
    assert (mesh.connections, mesh.sas, mesh.policies, mesh.start) == (7, 14, 21, 28)


def test_lifetimes_are_plutos_own() -> None:
    assert internet.Lifetimes().between(28800) == 28800 - 540 * 1.5


@pytest.mark.parametrize(
    ("rate", "said"), [(0.01, "one in 100 s"), (1.0, "1.0 a second"), (2.5, "2.5 a second")]
)
def test_rates_in_words(rate: float, said: str) -> None:
    assert internet.one_in(rate) == said


def test_a_table_has_a_column_for_each_mesh() -> None:
    meshes = {"7": internet.gateway(7, COSTS, LIVES), "1,000": internet.gateway(999, COSTS, LIVES)}
    lines = internet.table("one of", meshes).splitlines()
    assert lines[:3] == [
        "| one of | 7 | 1,000 |",
        "| --- | ---: | ---: |",
        "| connections loaded | 14 | 1,998 |",
    ]
    assert {line.count("|") for line in lines} == {4}


def test_bars_are_as_long_as_their_numbers() -> None:
    rows = [bars.Row("a <way>", "AES-GCM", 1.0, 1.1), bars.Row("another", "no crypto", 0.25, 1.05)]
    drawn = ElementTree.fromstring(bars.draw(rows))  # noqa: S314 - our own
    ground, *shapes = drawn.iter("{http://www.w3.org/2000/svg}rect")
    lengths = [float(shape.get("width", "0")) for shape in shapes]
    assert lengths == pytest.approx([bars.LENGTH, bars.LENGTH, bars.LENGTH / 4, bars.LENGTH / 2])
    words = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <way>", "another", "10.0%", "5.0%", "0.25, no crypto"} <= set(words)
    wide = float(ground.get("width", "0"))
    assert all(
        float(shape.get("x", "0")) + each < wide
        for shape, each in zip(shapes, lengths, strict=True)
    )
