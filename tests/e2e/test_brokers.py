"""The brokers of the fleet: which are away, who uses them, how fast they answer, when their certificates expire."""

from fleet.ports import free_port
from fleet.wait import wait_until
from test_cli import Cli


def brokers(api, **query):
    answer = api.get("/api/v1/brokers", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_brokers_are_listed_over_all_nodes(fleet):
    nodes = fleet.start_nodes(2, peer_timeout_ms=500, metrics__by_broker="true",
                              metrics__by_label="customer")
    fleet.online(6, keepalive_s=1)
    away = f"127.0.0.1:{free_port()}"
    fleet.api.create([fleet.document(f"w{n}", url=f"mqtt://{away}", reconnect_max_ms=200,
                                     labels={"customer": "acme"})
                      for n in range(6)])
    good = f"127.0.0.1:{fleet.broker.port}"

    def seen():
        rows = {row["broker"]: row for row in brokers(fleet.api)["brokers"]}
        one, other = rows[good], rows[away]
        assert one["clients"]["all"] == one["clients"]["online"] == 6, one
        assert one["ping_ms"] and 0 < one["ping_ms"]["p50"] <= one["ping_ms"]["p99"], one
        assert other["clients"]["all"] == 6 and other["incident"], other
        assert other["incident"]["nodes"], other
        return rows

    rows = wait_until(seen, 60, "both brokers")
    assert rows[good]["incident"] is None and sorted(rows[good]["nodes"]) == ["n1", "n2"]
    assert rows[away]["incident"]["code"] == "connection_refused"
    assert rows[away]["incident"]["since"] and rows[away]["connects_per_s"] > 0
    assert rows[away]["ping_ms"] is None and rows[away]["certificate_expires_at"] is None
    assert set(rows[good]["nodes"]) >= set(rows[away]["incident"]["nodes"])
    answer = brokers(nodes[1].api, limit=1)
    assert [row["broker"] for row in answer["brokers"]] == [away]  # the one in trouble is first
    assert answer["others"] == {"brokers": 1, "clients": 6} and answer["incomplete"] == []
    assert fleet.api.get("/api/v1/brokers?limit=1001").status_code == 400

    pages = [node.api.get("/metrics").text for node in nodes]
    lines = [line for page in pages for line in page.splitlines()]
    assert sum(int(line.split()[-1]) for line in lines if line.startswith(
        'mqfleet_label_clients{label="customer",value="acme"')) == 6
    assert sum(int(line.split()[-1]) for line in lines if line.startswith(
        f'mqfleet_broker_clients{{broker="{good}",state="online"')) == 6

    # The command line, and a node that does not answer.
    cli = Cli(nodes[0])
    headings, *lines = cli.good("brokers").splitlines()
    assert headings.split()[0] == "BROKER" and headings.split()[-1] == "ERROR"
    assert [line.split()[:2] for line in lines] == [[away, "6"], [good, "6"]] and "refused" in lines[0]
    assert len(cli.json("brokers")["brokers"]) == 2
    nodes[1].pause()
    fleet.at_end(nodes[1].resume)
    incomplete = brokers(nodes[0].api)["incomplete"]
    assert [row["node"] for row in incomplete] == ["n2"] and incomplete[0]["reason"]
    assert "node n2:" in cli.fails(1, "brokers")
