"""Names with several addresses, several URLs, and what a URL or an empty password means (cases D1 to
D4, E7 and E8)."""

import pytest

from fleet.scripted import ScriptedBroker

CLIENTS = "/api/v1/clients"


@pytest.mark.parametrize("url", ["mqtt://user:top#001@127.0.0.1", "mqtts://user:top/001@127.0.0.1",
                                 "ws://us?er:top@127.0.0.1/mqtt"])
def test_case_E7_a_password_within_a_url_is_named_as_the_cause(fleet, url):
    fleet.start_node()
    for path in (CLIENTS, CLIENTS + ":test"):
        answer = fleet.api.post(path, {"id": "c", "url": url})
        assert answer.status_code == 422, answer.text
        error, = answer.json()["errors"]
        assert error["pointer"] == "/url" and "percent-encoded" in error["detail"], error
        assert "001" not in answer.text and "top" not in answer.text


@pytest.mark.every_engine
@pytest.mark.parametrize("version", [4, 5])
def test_case_E8_an_empty_password_is_sent_and_none_is_not(fleet, version):
    fleet.start_node()
    broker = fleet.closing(ScriptedBroker())
    for client, more, (username, password) in [
            ("empty", {"username": "u", "password": ""}, ("u", b"")),
            ("none", {"username": "u"}, ("u", None)),
            ("nobody", {"username": "", "password": ""}, (None, None))]:
        fleet.api.create(fleet.document(client, url=broker.url, protocol_version=version, **more))
        connect = broker.connection().connect
        assert (connect.username, connect.password) == (username, password), client
        fleet.api.delete(fleet.api.path(client))
