"""A file to begin with: right whatever was given, never over another, asked for on a terminal."""

import os
import pty
import re
import subprocess
from ipaddress import ip_address, ip_network
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl.config import native
from cablectl.model.wishes import Mode, OverlayKind
from cablectl.render.draft import Given, as_draft
from tests.support.places import PROGRAM
from tests.support.terminal import shown_on

EAST = "--endpoint=east=172.18.0.8,10.44.0.0/16"
WEST = "--endpoint=west=172.18.0.7,10.45.0.0/16,10.46.0.0/16"
ENDS = {
    "v4": [
        Given("east", "172.18.0.8", ("10.44.0.0/16",)),
        Given("west", "172.18.0.7", ("10.45.0.0/16", "10.46.0.0/16")),
    ],
    "v6": [
        Given("east", "fd00:1::", ("2001:db8:44::/48",)),
        Given("west", "2001:db8::7", ("2001:db8:45::/48",)),
    ],
}
KINDS = [
    (Mode.TUNNEL, OverlayKind.NONE),
    (Mode.NONE, OverlayKind.VXLAN),
    *product([Mode.TRANSPORT], OverlayKind),
]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "init", *args],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("family", ENDS)
@pytest.mark.parametrize(("mode", "overlay"), KINDS)
def test_a_draft_says_what_was_given(mode: Mode, overlay: OverlayKind, family: str) -> None:
    ends = ENDS[family]
    if (mode, overlay) == (Mode.TRANSPORT, OverlayKind.NONE):
        ends = [Given(each.cluster, each.address) for each in ends]
    text = as_draft(mode, overlay, ends)
    network = native.parse(text, "draft")
    assert network.mode is mode
    assert (network.overlay.kind if network.overlay else OverlayKind.NONE) is overlay
    for said, end in zip(ends, network.endpoints, strict=True):
        assert end.cluster == said.cluster
        assert end.hostname == f"{said.cluster}-gateway"
        assert end.address == ip_address(said.address)
        assert end.subnets == tuple(ip_network(each) for each in said.subnets)

    commented_in = re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.MULTILINE)
    assert commented_in.count("\n") == text.count("\n")
    changed = native.parse(commented_in, "draft")
    assert (changed == network) is (mode is Mode.NONE)
    assert changed.endpoints[0].behind_nat is (mode is Mode.TUNNEL)


@given(
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z") | st.sampled_from(["no", "1e3", "1_0"])
)
def test_every_name_is_read_back(name: str) -> None:
    ends = [Given(name, "172.18.0.8"), Given("b", "172.18.0.7")]
    if name != "b":
        end = native.parse(as_draft(Mode.TRANSPORT, OverlayKind.GRE, ends), "draft").endpoints[0]
        assert end.cluster == name


def test_a_hostname_is_no_other_cluster() -> None:
    ends = [Given("a", "172.18.0.8"), Given("a-gateway", "172.18.0.7")]
    network = native.parse(as_draft(Mode.TRANSPORT, OverlayKind.GRE, ends), "draft")
    assert network.named("a-gateway") is network.endpoints[1]


def test_it_is_written_to_stdout_or_to_a_new_file(tmp_path: Path) -> None:
    to_stdout = run(EAST, WEST)
    assert (to_stdout.returncode, to_stdout.stderr) == (0, "")
    assert run("-", EAST, WEST).stdout == to_stdout.stdout
    file = tmp_path / "cable.yaml"
    done = run(str(file), EAST, WEST)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"cablectl: note: {file} is written")
    assert file.read_text() == to_stdout.stdout
    network = native.parse(to_stdout.stdout, "draft")
    assert (network.mode, network.overlay and network.overlay.kind) == ("transport", "vxlan")


def test_more_than_two_are_a_mesh(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    assert run(str(file), EAST, WEST, "--endpoint=c=172.18.0.6,10.47.0.0/16").returncode == 0
    assert file.read_text().startswith("# A mesh of 3 gateways. Copy this file to all of them.")
    assert len(native.parse(file.read_text(), "mesh.yaml").endpoints) == 3


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_it_is_never_written_over_another(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "cable.yaml"
    if kind == "folder":
        file.mkdir()
    elif kind == "link":
        file.symlink_to(tmp_path / "nowhere")
    else:
        file.write_text("mine")
    done = run(str(file), EAST, WEST)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cablectl: {file} exists already")
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or file.read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "missing: --endpoint, twice; there is no terminal to ask on"),
        ((EAST,), "missing: a second --endpoint; there is no terminal to ask on"),
        ((EAST, "--endpoint=west"), "--endpoint west: allowed: CLUSTER=ADDRESS[,SUBNET...]"),
        ((EAST, "--endpoint=a b=1.2.3.4"), "--endpoint a b=1.2.3.4: 'a b' is not allowed; allowed"),
        ((EAST, "--endpoint=b=1.2.3"), "--endpoint b=1.2.3: '1.2.3' is not allowed; allowed: an I"),
        ((EAST, "--endpoint=b=1.2.3.4,x"), "--endpoint b=1.2.3.4,x: 'x' is not allowed; allowed:"),
        ((EAST, EAST), "endpoints[1].cluster: 'east' is the cluster of endpoints[0] too; give"),
        (
            (EAST, WEST, "--endpoint=c=172.18.0.6", "--overlay=gre"),
            "endpoints: 3 given, but a gre device has one peer; allowed: two",
        ),
        (
            (EAST, WEST, "--mode=none", "--overlay=gre"),
            "overlay: 'gre' is not allowed; allowed in mode none: vxlan",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_written(
    args: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "cable.yaml"
    done = run(str(file), *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cablectl: {message}")
    assert not file.exists()


def asked(answers: str, *args: str) -> tuple[int, str, str]:
    """Return exit code, stdout, and what a terminal shows on which the answers are typed."""
    terminal, end = pty.openpty()
    os.write(terminal, answers.encode())
    done = subprocess.run(
        [PROGRAM, "init", *args],
        stdin=end,
        stderr=end,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(end)
    return done.returncode, done.stdout, shown_on(terminal)


def test_on_a_terminal_it_asks() -> None:
    answers = "\n\n\n172.18.0.8\n10.44.0.0/16, 10.47.0.0/16\nwest\n172.18.0.7\n\n"
    code, text, shown = asked(answers)
    assert code == 0
    network = native.parse(text, "draft")
    assert (network.mode, network.overlay and network.overlay.kind) == ("transport", "vxlan")
    first, second = network.endpoints
    assert (first.cluster, str(first.address), len(first.subnets)) == ("cluster1", "172.18.0.8", 2)
    assert (second.cluster, str(second.address), second.subnets) == ("west", "172.18.0.7", ())
    assert "Mode (tunnel, transport, none) [transport]: " in shown


def test_a_wrong_answer_is_asked_for_again() -> None:
    wrong = {"bogus": "tunnel", "1.2.3": "172.18.0.8", "10.44.0.1/16": "10.44.0.0/16"}
    (mode, right), *others = wrong.items()
    answers = "".join(f"{each}\n{correct}\n" for each, correct in others)
    code, text, shown = asked(f"{mode}\n{right}\n\n\n{answers}", WEST)  # overlay, cluster
    assert code == 0
    for each in wrong:
        wrong_bits = each == "10.44.0.1/16"
        assert f"  '{each}' {'has host bits set' if wrong_bits else 'is not allowed'}; " in shown
    network = native.parse(text, "draft")
    assert network.mode is Mode.TUNNEL
    assert str(network.endpoints[1].subnets[0]) == "10.44.0.0/16"


def test_ends_that_do_not_go_together_are_asked_for_again() -> None:
    wrong = "\n\n\n172.18.0.8\n10.44.0.0/16\n\n172.18.0.7\n10.44.0.0/16\n"
    code, text, shown = asked(f"{wrong}\n\n\n\n\n10.45.0.0/16\n")
    assert code == 0
    assert "endpoints[1].subnets[0]: '10.44.0.0/16' overlaps 10.44.0.0/16" in shown
    second = native.parse(text, "draft").endpoints[1]
    assert (str(second.address), str(second.subnets[0])) == ("172.18.0.7", "10.45.0.0/16")


def test_what_is_given_is_not_asked_for() -> None:
    answers = "\n172.18.0.6\n-\n"
    code, text, shown = asked(answers, EAST, "--mode=transport", "--overlay=geneve")
    assert code == 0
    assert "Mode" not in shown
    assert "Gateway 1" not in shown
    assert [each.cluster for each in native.parse(text, "draft").endpoints] == ["east", "cluster2"]


def test_no_answer_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "cable.yaml"
    code, _, shown = asked("\n\x04", str(file))
    assert code == 2
    assert "no answer, so nothing was written" in shown
    assert not file.exists()
