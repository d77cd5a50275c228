"""A node for the tests of one file; see fleet/desk.py."""

import pytest

from fleet.desk import Desk
from fleet.fleet import Fleet


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory, engine):
    fleet = Fleet(tmp_path_factory.mktemp("desk"), engine)
    try:
        yield Desk(fleet)
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def desk(shared_desk):
    yield shared_desk
    shared_desk.clear()
