"""Fixtures: a fleet of real processes for each test; on failure, its logs."""

import pytest

from fleet.certificates import Authority
from fleet.fleet import Fleet

LOG_TAIL = 8000


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    fleet = getattr(item, "funcargs", {}).get("fleet")
    if report.failed and fleet is not None:
        for name, log in fleet.logs():
            report.sections.append((f"log of {name}", log[-LOG_TAIL:]))


@pytest.fixture
def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    try:
        yield fleet
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory):
    """The API of a node that serves all read-only tests of a module."""
    fleet = Fleet(tmp_path_factory.mktemp("shared"))
    try:
        yield fleet.start_node().api
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)
