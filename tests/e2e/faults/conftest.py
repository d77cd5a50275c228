"""A fleet under load for each test; see fleet/stage.py."""

import pytest

from fleet.stage import Stage


@pytest.fixture
def stage(fleet):
    return Stage(fleet)
