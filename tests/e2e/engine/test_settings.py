"""Settings that only the engine `reactor` has."""

import re

from fleet.wait import wait_until

CONNECTED_FROM = re.compile(r"New client connected from (\S+?):\d+ as c\d+ ")


def test_connections_come_from_the_source_addresses_in_turn(fleet):
    fleet.start_node(source_addresses="127.0.0.2, 127.0.0.3")
    fleet.online(20)
    found = CONNECTED_FROM.findall(fleet.broker.log())
    assert len(found) == 20 and set(found) == {"127.0.0.2", "127.0.0.3"}
    assert min(map(found.count, set(found))) >= 5


def test_a_source_address_that_the_machine_has_not_is_shown_on_the_client(fleet):
    fleet.start_node(source_addresses="192.0.2.7")
    fleet.create(1)
    error = wait_until(lambda: fleet.api.status("c00000")["last_error"], 20, "a connect that fails")
    assert error["code"] == "source_address_unusable" and "source_addresses" in error["message"]
