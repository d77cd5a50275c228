"""/metrics: promtool accepts it, and the numbers match the test's actions. The alerts and the dashboard in
conf/ use only existing metrics."""

import json
import pathlib
import re
import subprocess
import threading

import pytest

from fleet.wait import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "conf/prometheus-alerts.yml"
DASHBOARD = ROOT / "conf/grafana-dashboard.json"


def scrape(node):
    """{`name{labels}`: value}"""
    answer = node.api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in answer.text.splitlines() if not line.startswith("#")}


def total(samples, name):
    return sum(value for key, value in samples.items() if key.split("{")[0] == name)


def promtool(*words, text=None):
    result = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == 0 and not result.stderr.strip(), result.stdout + result.stderr
    return result.stdout


def wait_metric(node, key, value, bound_s=20):
    def reached():
        samples = scrape(node)
        assert samples.get(key) == value, f"{key} is {samples.get(key)}"
        return samples

    return wait_until(reached, bound_s, f"{key} {value}")


def test_the_numbers_are_those_of_what_was_done(fleet):
    node = fleet.start_node("m1")
    ids = fleet.online(5, username="u", password="hidden-9")
    wait_metric(node, "mqfleet_fleet_owned_clients", 5)  # counted once a second
    before = wait_metric(node, 'mqfleet_clients{state="online"}', 5)
    assert before['mqfleet_connect_attempts_total{result="online"}'] == 5
    assert before["mqfleet_connect_duration_seconds_count"] == 5
    assert before["mqfleet_clients_claimed_total"] == 5
    assert before["mqfleet_leader"] == before["mqfleet_lease_valid"] == before["mqfleet_member"] == 1
    assert before["process_open_fds"] >= 5 and before["process_cpu_seconds_total"] > 0
    for number in range(10):
        answer = node.api.publish(ids[0], f"t/{ids[0]}/x", "x" * 100, qos=number % 2)
        assert answer.status_code == 200
    # QoS of delivery: the lower of publication (0 or 1) and subscription (1).
    after = wait_metric(node, 'mqfleet_messages_received_total{qos="1"}', 5)
    assert after['mqfleet_messages_received_total{qos="0"}'] == 5
    after = wait_metric(node, "mqfleet_sink_accepted_total", 10)
    assert after["mqfleet_messages_sent_total"] == 10
    assert after["mqfleet_messages_sent_bytes_total"] == 1000
    assert after["mqfleet_messages_received_bytes_total"] == 1000
    assert after["mqfleet_publish_duration_seconds_count"] == 10
    assert after["mqfleet_publish_duration_seconds_sum"] > 0
    assert after["mqfleet_sink_latency_seconds_count"] == 10
    assert after['mqfleet_sink_outcome_seconds_count{sink="redis_stream"}'] == 10
    assert after['mqfleet_publish_duration_seconds_bucket{le="+Inf"}'] == 10
    assert after["mqfleet_redis_call_duration_seconds_count"] > 0
    assert after['mqfleet_http_requests_total{code="2xx"}'] >= 12
    assert node.api.get("/no/such/path").status_code == 404
    assert scrape(node)['mqfleet_http_requests_total{code="4xx"}'] >= 1

    fleet.broker.kill()
    lost = wait_metric(node, 'mqfleet_clients{state="online"}', 0)
    assert total(lost, "mqfleet_connections_lost_total") == 5
    failed = wait_until(
        lambda: scrape(node)['mqfleet_connect_attempts_total{result="tcp"}'] > 0, 20, "a failure")
    assert failed
    last = scrape(node)
    falling = [key for key, value in after.items() if last[key] < value
               and re.match(r"\w+(_total|_count|_sum|_bucket)\b", key)]
    assert not falling

    text = node.api.get("/metrics").text
    promtool("check", "metrics", text=text)
    assert "hidden-9" not in text and not any(client in text for client in ids)


def test_a_dead_node_is_seen_in_the_counters_of_the_leader(fleet):
    first, second = fleet.start_nodes(2)
    fleet.online(4)
    leader, other = ((first, second) if scrape(first)["mqfleet_leader"] else (second, first))
    taken = leader.api.nodes()[other.name]["clients"]
    assert taken > 0
    other.kill()
    samples = wait_metric(leader, "mqfleet_nodes_reaped_total", 1, 30)
    assert samples["mqfleet_clients_reaped_total"] == taken
    assert samples["mqfleet_rehome_duration_seconds_count"] == 1
    assert samples["mqfleet_rehome_duration_seconds_sum"] > 0
    wait_metric(leader, 'mqfleet_clients{state="online"}', 4)


def test_who_rests_after_a_failure_does_not_count_as_waiting(fleet):
    node = fleet.start_node()
    fleet.redis.client.hset("mqtt_config:no", "torn", '{"broker":')
    wait_metric(node, "mqfleet_fleet_resting_clients", 1)
    assert scrape(node)["mqfleet_fleet_waiting_clients"] == 0


def test_without_redis_the_node_still_tells_what_it_knows(fleet):
    node = fleet.start_node()
    fleet.online(2)
    fleet.redis.pause()
    wait_until(lambda: scrape(node)["mqfleet_lease_valid"] == 0, 20, "no lease")
    samples = scrape(node)
    assert samples['mqfleet_clients{state="online"}'] == 2
    wait_until(lambda: scrape(node)['mqfleet_heartbeats_total{result="failed"}'] > 0, 20, "failed")
    wait_until(lambda: "mqfleet_fleet_waiting_clients" not in scrape(node), 20, "not counted")
    wait_until(lambda: node.api.get("/readyz").json()["reason"].startswith("last answered"), 60, "the cause, not the lease")
    fleet.redis.resume()
    wait_metric(node, "mqfleet_lease_valid", 1)
    wait_metric(node, "mqfleet_fleet_owned_clients", 2)


def test_scrapes_beside_each_other(fleet):
    node = fleet.start_node()
    answers = []

    def many():
        for _ in range(50):
            answers.append(node.api.get("/metrics").status_code)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 200


# ---- what is made of them -----------------------------------------------------------------------

NAME = re.compile(r"\b((?:mqfleet|process)_[a-z0-9_]+)\b")


def used_names(expressions):
    return {name for text in expressions for name in NAME.findall(text)}


@pytest.fixture(scope="module")
def shown(shared_api):
    wait_until(lambda: "mqfleet_fleet_waiting_clients" in shared_api.get("/metrics").text, 20,
               "the node has joined")
    return shared_api.get("/metrics").text


def known_names(text):
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} \
                if kind == "histogram" else {name}
    return names


def dashboard_expressions():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def test_the_alerts_fire_when_they_should(shown):
    promtool("check", "rules", ALERTS)
    promtool("check", "config", ROOT / "conf/prometheus.yml")
    promtool("test", "rules", ROOT / "tests/prometheus/alerts_test.yml")
    expressions = re.findall(r"expr:(.*?)\n        (?:for|labels):", ALERTS.read_text(), re.DOTALL)
    used = used_names(expressions)
    assert len(used) > 15 and used <= known_names(shown), used - known_names(shown)


def test_the_dashboard_shows_metrics_that_there_are_and_all_of_them(shown, tmp_path):
    expressions = dashboard_expressions()
    used, known = used_names(expressions), known_names(shown)
    assert used <= known, used - known
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    left = families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert left <= {"mqfleet_build_info", "mqfleet_node_info", "mqfleet_draining",
                    "mqfleet_fleet_owned_clients", "process_virtual_memory_bytes",
                    "process_start_time_seconds",
                    "mqfleet_broker_certificate_expiry_timestamp_seconds",
                    "mqfleet_label_clients", "mqfleet_broker_clients", "mqfleet_groups_in_other"}, left
    rules = tmp_path / "rules.yml"  # Grafana's variables filled in, promtool knows the language
    filled = [expr.replace("$__rate_interval", "5m").replace("$instance", ".*")
              .replace("$fleet", ".*")
              for expr in expressions]
    rules.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(filled)]}]}))
    promtool("check", "rules", rules)


def test_the_page_of_metrics_is_that_of_the_program(shown):
    namespace = {"__name__": "reference", "__file__": str(ROOT / "tools/metrics-reference")}
    exec((ROOT / "tools/metrics-reference").read_text(), namespace)
    rows = {row.split("|")[1].strip(): row for row in namespace["table"](shown).splitlines()[2:]}
    page = {row.split("|")[1].strip(): row
            for row in (ROOT / "docs/metrics.md").read_text().splitlines() if row.startswith("| `")}
    assert rows == page, "docs/metrics.md is old: run tools/metrics-reference"
