"""Fixtures: a fleet of real processes for each test; on failure, its logs. Tests marked every_engine run
for each engine; docs/engines.md lists the ones that an engine skips."""

import re

import pytest

from fleet.certificates import Authority
from fleet.engines import ENGINES, ONE_ENGINE, limit_of
from fleet.fleet import Fleet
from fleet.rabbitmq import RabbitMq, RabbitMqServer
from results import Results

LOG_TAIL = 8000


def pytest_addoption(parser):
    parser.addoption("--results", metavar="FILE", help="write what each run of each test gave")


def pytest_configure(config):
    if config.option.results and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config.option.results))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Tests of one xdist_group run on one worker, so shared servers are started once."""
    if hasattr(config, "workerinput"):
        config.option.loadgroup = True  # a worker does not hear of the choice below
    elif getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadgroup"


def one_word(name):
    """A name that log readers do not split."""
    return re.sub(r"[\s:]+", "_", name)


@pytest.hookimpl(hookwrapper=True)
def pytest_pycollect_makeitem():
    outcome = yield
    found = outcome.get_result()
    for item in found if isinstance(found, list) else []:
        if isinstance(item, pytest.Item) and item.name != one_word(item.name):
            item._nodeid = item._nodeid.replace(item.name, one_word(item.name))
            item.name = one_word(item.name)


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("every_engine"):
        metafunc.parametrize("engine", ENGINES, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "rabbitmq" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))
        params = item.callspec.params if hasattr(item, "callspec") else {}
        engine = params.get("engine", ONE_ENGINE)
        bare = item.name
        if "engine" in params:
            bare = bare.replace(f"[{engine}-", "[").replace(f"-{engine}]", "]")
            bare = bare.replace(f"[{engine}]", "")
        reason = limit_of(engine, item.path.name, bare)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"{engine}: {reason}"))


@pytest.fixture(scope="session")
def engine():
    """The engine of the nodes; None: the default."""
    return ONE_ENGINE


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    arguments = getattr(item, "funcargs", {})
    fleet = arguments.get("fleet") or getattr(arguments.get("desk"), "fleet", None)
    if report.failed and fleet is not None:
        for name, log in fleet.logs():
            report.sections.append((f"log of {name}", log[-LOG_TAIL:]))


@pytest.fixture
def fleet(tmp_path, engine):
    fleet = Fleet(tmp_path, engine)
    try:
        yield fleet
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory):
    if RabbitMqServer.missing():
        pytest.skip(f"{RabbitMqServer.missing()} is not installed")
    server = RabbitMqServer(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def rabbitmq(rabbitmq_server):
    """A virtual host of a running RabbitMQ, for one test. A test that uses it through another fixture must name
    it too."""
    return RabbitMq(rabbitmq_server).start()


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory):
    """The API of a node that serves all read-only tests of a module."""
    fleet = Fleet(tmp_path_factory.mktemp("shared"))
    try:
        yield fleet.start_node().api
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)
