"""Who may do what: tokens and roles, the secret between nodes, HTTPS, pages of other sites."""

import os
import re
import socket
import subprocess
import threading

import pytest
import requests

from fleet.api import Api
from fleet.node import BINARY, ROOT, environment
from fleet.ports import free_port
from fleet.wait import wait_until

SECRET = "the-secret-between-nodes-1"
ATTEMPTS_FREE = 10


def make_token(name, role):
    """The token and its line."""
    result = subprocess.run([BINARY, "--new-token", name, role], env=environment(), check=True,
                            capture_output=True, text=True)
    token, line = (row.split(None, 1)[1] for row in result.stdout.splitlines())
    return token, line


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


class Desk:
    """A fleet whose nodes want tokens; one token of each role."""

    def __init__(self, fleet, folder):
        self.fleet, self.folder = fleet, folder
        made = {role: make_token(role + "-1", role) for role in ("viewer", "operator", "admin")}
        self.tokens = {role: token for role, (token, _) in made.items()}
        self.lines = [line for _, line in made.values()]
        self.tokens_file = private(folder / "tokens", "# who may call\n\n" + "\n".join(self.lines))
        self.secret_file = private(folder / "secret", SECRET + "\n")

    def settings(self, **more):
        return {"http__tokens_file": self.tokens_file, "fleet__secret_file": self.secret_file,
                **more}

    def start_node(self, **more):
        node = self.fleet.start_node(**self.settings(**more))
        node.api.use(token=self.tokens["admin"])
        return node

    def api(self, node, role=None, token=None, ca=None):
        api = Api(node.port)
        return api.use(token=token or (role and self.tokens[role]), ca=ca)

    def rewrite(self, lines):
        self.tokens_file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def desk(fleet, tmp_path):
    return Desk(fleet, tmp_path)


def problem(answer, status, name):
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"].endswith(name), answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    return answer


def events(node, name):
    return [line for line in node.log().splitlines() if f"event={name} " in line]


def wait_event(node, name, *parts):
    def found():
        return [line for line in events(node, name) if all(part in line for part in parts)]

    return wait_until(found, 20, f"{name} with {parts} in the log")[-1]


# ---- tokens and roles ---------------------------------------------------------------------------

def test_without_a_token_nothing_is_shown_but_that_the_node_lives(desk):
    node = desk.start_node()
    stranger = desk.api(node)
    for path in ("/livez", "/readyz", "/beat"):
        assert stranger.get(path).status_code == 200, path
    for method, path in [("GET", "/api/v1/clients"), ("POST", "/api/v1/clients"),
                         ("GET", "/api/v1/nodes"), ("GET", "/no/such/path"),
                         ("DELETE", "/api/v1/nodes"), ("GET", "/node_list"),
                         ("POST", "/push_data"), ("POST", "/fleet/claim"),
                         ("OPTIONS", "/api/v1/clients")]:
        answer = problem(stranger.call(method, path), 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    basic = stranger.get("/api/v1/nodes", headers={"Authorization": "Basic YTpi"})
    problem(basic, 401, "unauthorized")
    more = stranger.get("/api/v1/nodes",
                        headers={"Authorization": f"Bearer {desk.tokens['admin']} x"})
    problem(more, 401, "unauthorized")
    in_query = stranger.get("/api/v1/nodes", params={"access_token": desk.tokens["admin"]})
    problem(in_query, 401, "unauthorized")
    assert desk.tokens["admin"] not in node.log()


def test_each_role_may_do_what_it_says(desk):
    node = desk.start_node()
    viewer, operator = desk.api(node, "viewer"), desk.api(node, "operator")
    document = desk.fleet.document("m1")
    refused = problem(viewer.post("/api/v1/clients", document), 403, "forbidden")
    assert "viewer" in refused.json()["detail"] and "operator" in refused.json()["detail"]
    for verb in ("pause", "resume", "restart", "release", "publish"):
        problem(viewer.post(f"/api/v1/clients/m1/{verb}", {}), 403, "forbidden")
    problem(viewer.delete("/api/v1/clients/m1"), 403, "forbidden")
    problem(viewer.post("/api/v1/nodes/n1/drain"), 403, "forbidden")
    problem(viewer.get("/remove_mqtt_client", params={"id": "m1"}), 403, "forbidden")
    assert operator.post("/api/v1/clients", document).status_code == 201
    viewer.wait_state("m1", "online")
    assert viewer.get("/api/v1/nodes").status_code == 200
    problem(operator.post("/fleet/statuses", {"ids": []}), 403, "forbidden")


def test_changes_are_noted_with_who_and_what_and_the_request(desk):
    node = desk.start_node()
    operator = desk.api(node, "operator")
    answer = operator.post("/api/v1/clients", desk.fleet.document("m1", username="u", password="hidden-7"),
                           headers={"X-Request-Id": "order-4711"})
    assert answer.headers["X-Request-Id"] == "order-4711"
    line = wait_event(node, "audit", "request=order-4711")
    for part in ("caller=operator-1", "role=operator", "address=127.0.0.1", "method=POST",
                 "path=/api/v1/clients", "status=201", "subject=m1"):
        assert part in line, line
    viewer = desk.api(node, "viewer")
    viewer.delete("/api/v1/clients/m1", headers={"X-Request-Id": "bad id!"})
    line = wait_event(node, "audit", "caller=viewer-1")
    assert "status=403" in line and re.search(r"request=[0-9a-f]{32} ", line), line
    assert "hidden-7" not in node.log()
    stranger = desk.api(node)
    count = len(events(node, "audit"))
    stranger.delete("/api/v1/clients/m1")
    quiet = desk.start_node(log__level="error")
    desk.api(quiet, "operator").post("/api/v1/clients/m1/pause")
    assert wait_event(quiet, "audit", "subject=m1")
    assert len(events(node, "audit")) <= count + 1  # what was sent on, and nothing of the stranger
    assert not any(token in node.log() for token in desk.tokens.values())


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(desk):
    node = desk.start_node()
    stranger = desk.api(node, token="mqf_" + "x" * 40)
    codes = [stranger.get("/api/v1/nodes").status_code for _ in range(ATTEMPTS_FREE + 5)]
    assert codes == [401] * ATTEMPTS_FREE + [429] * 5
    limited = problem(stranger.get("/api/v1/nodes"), 429, "too-many-attempts")
    assert 1 <= int(limited.headers["Retry-After"]) <= 61
    assert desk.api(node, "viewer").get("/api/v1/nodes").status_code == 200
    assert len(events(node, "wrong_token")) == ATTEMPTS_FREE


def test_sighup_brings_new_tokens_in_and_takes_old_ones_away(desk):
    node = desk.start_node()
    token, line = make_token("late", "viewer")
    late, viewer = desk.api(node, token=token), desk.api(node, "viewer")
    problem(late.get("/api/v1/nodes"), 401, "unauthorized")
    desk.rewrite([line, desk.lines[1], desk.lines[2]])
    node.signal(1)
    wait_until(lambda: late.get("/api/v1/nodes").status_code == 200, 20, "the new token is known")
    problem(viewer.get("/api/v1/nodes"), 401, "unauthorized")
    desk.rewrite([line, "late-2 viewer plain-text-token-1234567"])
    node.signal(1)
    failed = wait_event(node, "reload_failed")
    assert "line 2" in failed and "plain-text-token" not in failed
    assert late.get("/api/v1/nodes").status_code == 200


def test_a_token_that_was_taken_away_does_not_go_on_listening(desk):
    node = desk.start_node()
    stream = desk.api(node, "viewer").get("/api/v1/events", stream=True)
    assert stream.status_code == 200
    ended = []
    reader = threading.Thread(target=lambda: ended.append(list(stream.iter_lines())))
    reader.start()
    desk.rewrite(desk.lines[1:])
    node.signal(1)
    reader.join(20)
    assert ended
    problem(desk.api(node, "viewer").get("/api/v1/events"), 401, "unauthorized")


BAD_TOKEN_FILES = [
    ("", "1 to 1000"),
    ("a viewer", "name role sha256:hash"),
    ("a king sha256:" + "0" * 64, "viewer, operator or admin"),
    ("a/b viewer sha256:" + "0" * 64, "name"),
    ("a viewer sha256:abc", "hexadecimal"),
    ("a viewer sha256:" + "0" * 64 + "\na admin sha256:" + "1" * 64, "duplicate"),
]


@pytest.mark.parametrize("text,part", BAD_TOKEN_FILES, ids=[row[1] for row in BAD_TOKEN_FILES])
def test_a_bad_token_file_stops_the_start_with_one_line(tmp_path, text, part):
    path = private(tmp_path / "tokens", text)
    result = subprocess.run([BINARY, "--check-config", "--set", f"http.tokens_file={path}"],
                            env=environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and part in result.stderr, result.stderr


def test_a_token_file_that_others_can_write_is_refused(tmp_path):
    path = private(tmp_path / "tokens", make_token("a", "viewer")[1])
    path.chmod(0o666)
    result = subprocess.run([BINARY, "--check-config", "--set", f"http.tokens_file={path}"],
                            env=environment(), capture_output=True, text=True)
    assert result.returncode == 2 and "writable" in result.stderr, result.stderr


def test_a_token_of_ones_own_is_hashed():
    result = subprocess.run([BINARY, "--hash-token"], input="my-own-token-of-some-length\n",
                            env=environment(), capture_output=True, text=True)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", result.stdout)
    short = subprocess.run([BINARY, "--hash-token"], input="short\n", env=environment(),
                           capture_output=True, text=True)
    assert short.returncode == 2 and "16" in short.stderr


# ---- between nodes ------------------------------------------------------------------------------

def test_nodes_know_each_other_by_the_secret_and_callers_cannot_pretend(desk):
    first, second = desk.start_node(), desk.start_node()
    ids = desk.fleet.create(6, api=first.api)
    desk.fleet.wait_online(ids, api=first.api)
    nodes = first.api.nodes()
    assert all(nodes[name]["clients"] > 0 for name in nodes), nodes  # both were given some
    for node in (first, second):  # each is asked for clients of the other
        operator = desk.api(node, "operator")
        for client in ids:
            answer = operator.publish(client, f"t/{client}/x", "hello")
            assert answer.status_code == 200, answer.text
    line = wait_event(second, "audit", "via=node")
    assert "caller=operator-1" in line
    stranger = desk.api(first)
    pretending = {"X-Mqfleet-Forwarded": "1", "X-Mqfleet-Caller": "admin-1"}
    problem(stranger.delete(f"/api/v1/clients/{ids[0]}", headers=pretending), 401, "unauthorized")
    viewer = desk.api(first, "viewer")
    problem(viewer.delete(f"/api/v1/clients/{ids[0]}", headers=pretending), 403, "forbidden")
    wrong = {**pretending, "Authorization": "Mqfleet the-secret-between-nodes-2"}
    problem(stranger.post("/fleet/claim", {}, headers=wrong), 401, "unauthorized")
    assert SECRET not in first.log() + second.log()


def test_with_a_secret_alone_only_the_calls_between_nodes_are_guarded(fleet, tmp_path):
    secret = private(tmp_path / "secret", SECRET)
    node = fleet.start_node(fleet__secret_file=secret)
    assert node.api.get("/api/v1/nodes").status_code == 200
    problem(node.api.post("/fleet/statuses", {"ids": []}), 403, "forbidden")
    right = {"Authorization": f"Mqfleet {SECRET}"}
    assert node.api.post("/fleet/statuses", {"ids": []}, headers=right).status_code == 200


def test_the_secret_is_changed_node_by_node(desk):
    first, second = desk.start_node(), desk.start_node()
    new = "the-secret-between-nodes-2"
    for node, text in ((first, SECRET + "\n" + new), (second, SECRET + "\n" + new),
                       (first, new + "\n" + SECRET), (second, new)):
        desk.secret_file.write_text(text + "\n")
        before = len(events(node, "reloaded"))
        node.signal(1)
        wait_until(lambda: len(events(node, "reloaded")) > before, 20, "reloaded")
    ids = desk.fleet.create(6, api=first.api)
    desk.fleet.wait_online(ids, api=second.api)
    assert all(second.api.status(client)["state"] == "online" for client in ids)


def test_tokens_in_a_fleet_need_a_secret(fleet, tmp_path):
    tokens = private(tmp_path / "tokens", make_token("a", "admin")[1])
    node = fleet.new_node(http__tokens_file=tokens)
    assert node.start_and_end() == 2
    assert "fleet.secret_file" in node.log()
    node.settings["fleet.secret_file"] = private(tmp_path / "secret", SECRET)
    node.settings["fleet.ca_file"] = "/no/such/ca.pem"
    assert node.start_and_end() == 2
    assert "fleet.ca_file" in node.log()


# ---- HTTPS --------------------------------------------------------------------------------------

def served_serial(node, ca):
    text = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", str(ca)],
        input="", capture_output=True, text=True, timeout=20).stdout
    return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=text,
                          capture_output=True, text=True).stdout


def test_two_nodes_over_https_with_a_certificate_changed_under_load(desk, authority):
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    certificates = [authority.issue(f"api-{number}", names) for number in range(2)]
    cert, key = desk.folder / "api.pem", desk.folder / "api.key"

    def install(number):
        for target, source in zip((cert, key), certificates[number]):
            spare = private(target.with_suffix(".new"), source.read_text())
            os.replace(spare, target)

    install(0)
    nodes = [desk.fleet.new_node(**desk.settings(
        http__tls_cert_file=cert, http__tls_key_file=key, fleet__ca_file=authority.ca))
        for _ in range(2)]
    for node in nodes:
        node.api.use(token=desk.tokens["operator"], ca=authority.ca)
        node.start()
    ids = desk.fleet.create(6, api=nodes[0].api)
    desk.fleet.wait_online(ids, api=nodes[0].api)
    assert {row["clients"] > 0 for row in nodes[0].api.nodes().values()} == {True}
    with pytest.raises(requests.RequestException):
        requests.get(f"http://127.0.0.1:{nodes[0].port}/livez", timeout=10)
    assert nodes[0].run_to_end("--check-live") == ["mqfleetd: the node is live\n", ""]
    before = served_serial(nodes[0], authority.ca)
    assert before
    private(key, certificates[1][0].read_text())  # no key at all
    nodes[0].signal(1)
    assert "tls_key_file" in wait_event(nodes[0], "reload_failed")
    assert served_serial(nodes[0], authority.ca) == before
    install(1)
    nodes[0].signal(1)
    kept = nodes[0].api  # one connection for all requests, over the change

    def changed():
        assert kept.publish(ids[0], f"t/{ids[0]}/x", "hello").status_code == 200
        return served_serial(nodes[0], authority.ca) not in ("", before)

    wait_until(changed, 20, "the new certificate is shown")


def test_a_key_of_another_certificate_stops_the_start(authority, tmp_path):
    result = subprocess.run(
        [BINARY, "--check-config", "--set", f"http.tls_cert_file={authority.server_certificate}",
         "--set", f"http.tls_key_file={authority.client_key}"],
        env=environment(), capture_output=True, text=True)
    assert result.returncode == 2 and "does not match" in result.stderr


def test_the_settings_of_the_image_demand_a_token(tmp_path):
    tokens = private(tmp_path / "tokens", "me admin sha256:" + "0" * 64 + "\n")
    for file, code in ((tokens, 0), ("", 2)):
        result = subprocess.run(
            [BINARY, "--check-config", "--config", ROOT / "conf/image/mqfleet.yml",
             "--set", f"http.tokens_file={file}"], env=environment(), capture_output=True, text=True)
        assert result.returncode == code, result.stderr


# ---- where it listens, and pages -----------------------------------------------------------------

def test_what_is_for_operations_has_a_listener_of_its_own(desk):
    port = free_port()
    node = desk.start_node(ops__port=port)
    apart = Api(port).use(token=desk.tokens["viewer"])
    assert apart.get("/livez").status_code == 200
    assert apart.get("/api/v1/nodes").status_code == 404
    problem(Api(port).get("/api/v1/nodes"), 401, "unauthorized")
    assert desk.api(node, "viewer").get("/api/v1/nodes").status_code == 200


def test_beyond_loopback_tokens_are_needed(desk):
    node = desk.fleet.new_node(http__listen="0.0.0.0")
    assert node.start_and_end() == 2
    node = desk.start_node(http__listen="0.0.0.0")
    assert node.api.get("/api/v1/nodes").status_code == 200
    assert events(node, "insecure")  # tokens without TLS


def test_pages_of_other_sites(fleet):
    listed, other = "https://console.example.org", "https://evil.example.org"
    node = fleet.start_node(http__cors_origins=listed)
    answer = node.api.get("/api/v1/nodes", headers={"Origin": listed})
    assert answer.headers["Access-Control-Allow-Origin"] == listed
    asked = {"Origin": listed, "Access-Control-Request-Method": "PUT"}
    preflight = node.api.call("OPTIONS", "/api/v1/clients/x", headers=asked)
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    refused = node.api.get("/api/v1/nodes", headers={"Origin": other})
    problem(refused, 403, "foreign-origin")
    assert "Access-Control-Allow-Origin" not in refused.headers
    rebound = node.api.get("/api/v1/nodes", headers={"Host": "evil.example.org"})
    problem(rebound, 403, "foreign-origin")
    assert node.api.get("/api/v1/nodes", headers={"Host": "localhost:80"}).status_code == 200
    image = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
    problem(node.api.get("/remove_mqtt_client?id=x", headers=image), 403, "foreign-origin")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert node.api.get("/console", headers=link).status_code == 200
    for path, more in (("/console", {"Sec-Fetch-Dest": "iframe"}), ("/console", {"Sec-Fetch-Mode": "no-cors"}), ("/console", {"Origin": other}),
                       ("/console/console.js", {}), ("/api/v1/nodes", {}), ("/remove_mqtt_client?id=x", {})):
        problem(node.api.get(path, headers={**link, **more}), 403, "foreign-origin")


def test_a_change_is_noted_though_the_caller_hung_up(desk):
    node = desk.start_node()
    mute = socket.create_server(("127.0.0.1", 0))
    document = {"id": "m1", "url": f"mqtt://127.0.0.1:{mute.getsockname()[1]}",
                "subscriptions": [{"filter": "t", "qos": 1}]}
    with pytest.raises(requests.Timeout):
        desk.api(node, "operator").post("/api/v1/clients?wait_ms=3000", document, timeout=0.3)
    assert "status=201" in wait_event(node, "audit", "subject=m1")
    mute.close()


def test_nobody_is_a_node_by_his_own_word(fleet):
    node = fleet.start_node()
    node.api.create(fleet.document("m1"))
    node.api.delete("/api/v1/clients/m1", headers={"X-Mqfleet-Forwarded": "1",
                                                   "X-Mqfleet-Caller": "the-boss"})
    assert "the-boss" not in node.log()


def test_a_broken_handshake_does_not_hold_the_node_up(desk, authority):
    node = desk.fleet.new_node(http__tls_cert_file=authority.server_certificate,
                               http__tls_key_file=authority.server_key)
    node.api.use(ca=authority.ca)
    node.start()
    sockets = []
    for _ in range(20):
        one = socket.create_connection(("127.0.0.1", node.port))
        one.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sockets.append(one)
    assert node.api.get("/livez").status_code == 200
    for one in sockets:
        one.close()


def test_rubbish_beside_normal_work(desk):
    """Answered or cut off, while clients stay online, messages come, and the node ends cleanly."""
    node = desk.start_node()
    ids = desk.fleet.online(20, api=node.api)
    sender = subprocess.Popen(["/usr/bin/python3", ROOT / "tools/bench/rubbish", "--send",
                               str(node.port), "2000", "4"], stdout=subprocess.PIPE, text=True)
    for number in range(20):
        assert node.api.get("/livez").status_code == 200
        answer = node.api.publish(ids[number], f"t/{ids[number]}/x", "hello")
        assert answer.status_code == 200, answer.text
    assert int(sender.communicate(timeout=60)[0]) > 500
    assert {one["status"]["state"] for one in node.api.clients()} == {"online"}
    assert {one["status"]["reconnects"] for one in node.api.clients()} == {0}
