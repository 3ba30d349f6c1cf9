"""No unit test may reach the host's own network or IPsec: their commands are fakes that fail."""

import os
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.facts.host_facts import Facts, connected
from cablectl.host import daemon, health_state
from cablectl.model.cable import Cable
from cablectl.model.psk import PskFile
from cablectl.run import journal
from tests.support.commands import forbid
from tests.support.examples import load
from tests.support.gateway import stand_in
from tests.support.plans import BLANK

# How long an example takes is the machine's business.
settings.register_profile("cablectl", deadline=None)
settings.load_profile("cablectl")
NUMBERS = count()  # of the tests that have begun


@pytest.fixture(scope="session")
def forbidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A failing stand-in for each command that reads or changes the host."""
    folder = tmp_path_factory.mktemp("fakes")
    forbid(folder)
    return folder


@pytest.fixture(autouse=True)
def no_real_commands(
    request: pytest.FixtureRequest, forbidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put the stand-ins first on the PATH, and /run/cablectl into a folder of the test's own."""
    if request.node.get_closest_marker("lab") or request.node.get_closest_marker("package"):
        return
    monkeypatch.setenv("PATH", f"{forbidden}:{os.environ['PATH']}")
    runtime = forbidden / f"run{next(NUMBERS)}"
    for module in (journal, health_state):
        monkeypatch.setattr(module, "DIRECTORY", runtime)


@pytest.fixture(autouse=True)
def no_known_directory() -> None:
    """Have each test ask its own `ipsec` where the programs are."""
    daemon._directory.cache_clear()


@pytest.fixture
def cable() -> Cable:
    return load("quickstart")


@pytest.fixture
def made(cable: Cable) -> Facts:
    """The facts of a host on which the cable was made."""
    return connected(cable, BLANK, 1408)


@pytest.fixture
def gateway(fp: FakeProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeProcess:
    """A gateway with root on which the cable is up."""
    return stand_in(fp, monkeypatch, tmp_path)


@pytest.fixture
def here(cable: Cable, tmp_path: Path) -> Cable:
    """The cable with the pre-shared key that the gateway has."""
    return replace(cable, ipsec=replace(cable.ipsec, psk=PskFile(str(tmp_path / "psk"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give those more time that install packages, or start gateways on a slow kernel."""
    for item in items:
        if item.get_closest_marker("lab") or item.get_closest_marker("package"):
            item.add_marker(pytest.mark.timeout(1200))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of what the tests counted."""
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for row in report.user_properties
    ]
    if rows:
        terminalreporter.section("counted")
        for name, value in dict.fromkeys(rows):
            terminalreporter.write_line(f"{name:40} {value}")
