"""What doctor found, as a table for people and as JSON."""

import io
import os
import pty

import pytest
from msgspec import to_builtins

from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.render import findings_table
from cablectl.render.doctor_report import doctor_report
from tests.support.terminal import shown_on

LONG = "172.18.0.7 UDP 4500 is silent, [and] this goes on for more than one line of eighty columns"
FINDINGS: tuple[Finding, ...] = (
    ok("root", "yes"),
    warn("clock", "not synchronised", "timedatectl set-ntp true"),
    fail("peer", LONG, "is cluster2-worker up?"),
)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def table(*findings: Finding, subject: str = "") -> str:
    out = io.StringIO()
    findings_table.print_table(findings, subject, out)
    return out.getvalue()


def test_failures_come_first_and_each_has_its_remedy_below() -> None:
    assert table(*FINDINGS, subject="cluster1 to cluster2") == (
        "fail  peer          172.18.0.7 UDP 4500 is silent, [and] this goes on for more\n"
        "                    than one line of eighty columns\n"
        "                    try: is cluster2-worker up?\n"
        "warn  clock         not synchronised\n"
        "                    try: timedatectl set-ntp true\n"
        "ok    root          yes\n"
        "\n"
        "cluster1 to cluster2: 1 fail, 1 warn, 1 ok\n"
    )


def test_what_others_name_is_a_line_and_moves_no_cursor() -> None:
    odd = fail("ports", "held by a\nb\x1b[2Jc\u202e (PID 7)", "stop it\r")
    assert table(odd) == (
        "fail  ports         held by a\\nb\\x1b[2Jc\\u202e (PID 7)\n"
        "                    try: stop it\\r\n"
        "\n"
        "1 fail\n"
    )


def test_without_a_file_and_without_a_failure() -> None:
    assert table(FINDINGS[0]) == "ok    root          yes\n\n1 ok\n"


def test_colour_on_a_terminal_alone() -> None:
    assert "\x1b[" not in table(*FINDINGS)
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as terminal:
        findings_table.print_table(FINDINGS, "", terminal)
    assert "\x1b[1;31mfail" in shown_on(parent)


def test_json() -> None:
    assert to_builtins(doctor_report(FINDINGS, "cluster1 to cluster2")) == {
        "cable": "cluster1 to cluster2",
        "counts": {"fail": 1, "warn": 1, "ok": 1},
        "findings": (
            {"check": "root", "state": "ok", "evidence": "yes", "fix": None},
            {
                "check": "clock",
                "state": "warn",
                "evidence": "not synchronised",
                "fix": "timedatectl set-ntp true",
            },
            {"check": "peer", "state": "fail", "evidence": LONG, "fix": "is cluster2-worker up?"},
        ),
    }
    assert doctor_report((), "").cable is None
