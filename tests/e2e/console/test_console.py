"""The console in a real browser, against a real fleet: the main action of each page. Texts of brokers
and clients are hostile."""

import gzip
import json
import re
from urllib.parse import quote

import pytest

from fleet.browser import Browser, missing
from fleet.node import ROOT
from fleet.wait import wait_until
from test_access import SECRET, make_token, private

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
HOSTILE_ID = "<img src=x onerror=\"document.title='owned'\">"  # an id has no /
PAGES = ("fleet", "clients", "new", "profiles", "nodes", "brokers", "sinks", "routes", "deadLetters", "operations", "audit")
FILES = ROOT / "src/http/console/page"
LIBRARY = "dygraph.min.js"  # of the charts
AXE = ROOT / "build/npm/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

pytestmark = pytest.mark.xdist_group("browser")
needs_browser = pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}")


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


def guarded(folder, lines):
    """The settings of a node that asks for a token."""
    return {"http__tokens_file": private(folder / "tokens", "\n".join(lines) + "\n"),
            "fleet__secret_file": private(folder / "secret", SECRET + "\n")}


def console(node):
    return node.api.base + "/console"


# ---- files --------------------------------------------------------------------------------------

def test_the_page_is_small_cached_and_loads_nothing_from_elsewhere(fleet):
    api = fleet.start_node("m1").api
    total = 0
    names = [file.name for file in FILES.iterdir()]
    for path in ["/console", f"/console/{LIBRARY}"] + [f"/console/{name}" for name in names]:
        answer = api.get(path, stream=True)
        body = answer.raw.read(decode_content=False)
        assert answer.status_code == 200 and answer.headers["Content-Encoding"] == "gzip", path
        policy = answer.headers["Content-Security-Policy"]
        for part in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'",
                     "form-action 'self'"):
            assert part in policy, path
        assert "unsafe" not in policy and answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        again = api.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304 and not again.content and again.headers["ETag"] == answer.headers["ETag"]
        assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        total += len(body)
        if path.endswith(LIBRARY):
            continue
        text = gzip.decompress(body).decode()
        assert not re.search(r"https?://(?!www\.w3\.org|broker\.example|example\.com)", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=\"", text), path
    assert total < 120_000
    assert api.get("/console/nosuch.js").status_code == 404
    assert api.get("/console/..%2Fopenapi.json").status_code == 404
    assert api.call("POST", "/console").status_code == 405


def test_a_caller_learns_its_role_and_scope(fleet, tmp_path):
    token, line = make_token("seer", "viewer")
    node = fleet.start_node("m1", **guarded(tmp_path, [f"{line} scope=label.tenant=acme"]))
    assert node.api.get("/api/v1/caller").status_code == 401
    node.api.use(token=token)
    assert node.api.get("/api/v1/caller").json() == {"name": "seer", "role": "viewer", "scope": "label.tenant=acme"}
    assert node.api.get("/console").status_code == 200  # it holds nothing of the fleet


# ---- pages --------------------------------------------------------------------------------------

@needs_browser
def test_clients_are_created_found_watched_changed_and_paused(fleet, browser):
    node = fleet.start_node("m1")
    browser.open(console(node) + "#/new")
    browser.see("Test the configuration")
    for name, value in {"url": fleet.broker.url, "id": "pump-1", "filter": "pumps/#/x", "labels": "site=oslo, x=<b>"}.items():
        browser.enter(name, value)
    browser.press("Test")
    browser.see("may have # only as its last level")
    browser.enter("filter", "pumps/#")  # a correction in the form counts
    browser.press("Test")
    browser.see("subscribe")
    browser.press("Create")
    browser.see("online")
    assert "#/client/pump-1" in browser.driver.current_url
    assert fleet.api.client("pump-1")["config"]["labels"] == {"site": "oslo", "x": "<b>"}

    browser.press("Watch")
    wait_until(lambda: fleet.broker.publish("pumps/<i>x", HOSTILE) or HOSTILE in browser.text(".messages"), 40,
               "the message is shown as text", poll_s=0.5)
    browser.enter("form", "hex")
    fleet.broker.publish("pumps/hex", "AZ")
    browser.see("41 5a", ".messages")
    browser.press("Stop")

    browser.enter("topic", "pumps/out")
    browser.enter("payload", "from the page")
    browser.press("Publish")
    browser.see("Published", "#toasts")
    wait_until(lambda: b"from the page" in fleet.stream.payloads(), 30, "the publication came back")

    browser.press("Edit")
    document = json.loads(browser.value("Configuration"))
    browser.enter("Configuration", json.dumps({**document, "keepalive_s": 33}))
    browser.press("Review changes")
    browser.see("/keepalive_s")
    browser.press("Save")
    wait_until(lambda: fleet.api.client("pump-1")["config"].get("keepalive_s") == 33, 30, "it is saved")
    browser.press("Pause")
    fleet.api.wait_state("pump-1", "paused")
    browser.press("Resume")
    fleet.api.wait_state("pump-1", "online")

    browser.go("clients?label.site=oslo&state=online")
    browser.see("1 client found")
    browser.press("pump-1")
    browser.see("History")
    wait_until(lambda: {part.get_attribute("class") for part in browser.driver.find_elements(
        "css selector", ".timeline span")} >= {"online", "paused"}, 60, "the time line")
    assert browser.driver.title != "owned"


@needs_browser
def test_the_fleet_page_tells_what_is_wrong_and_why(fleet, browser):
    node = fleet.start_node("m1")
    fleet.api.create({"id": HOSTILE_ID, "url": "mqtt://127.0.0.1:1", "client_id": "lost"})
    fleet.online(1)
    browser.open(console(node))
    browser.see("What needs attention")
    browser.see("1 client: Connection refused")
    browser.see("check host and port")
    browser.go("brokers")
    browser.see("backoff 1")
    browser.see("online 1")
    browser.go("fleet")
    browser.press("Show")
    browser.see(HOSTILE_ID)
    browser.see("connection_refused")
    browser.press(HOSTILE_ID)
    browser.see("Next attempt")
    assert browser.text("h1") == HOSTILE_ID
    browser.press("Delete")
    browser.press("Delete", "dialog")
    wait_until(lambda: fleet.api.get(fleet.api.path(HOSTILE_ID)).status_code == 404, 30, "it is deleted")
    assert browser.driver.title != "owned" and not browser.all("main img")


@needs_browser
def test_a_client_without_a_node_has_its_page_too(fleet, browser):
    node = fleet.start_node("m1", node_info__size=0)
    fleet.api.post("/api/v1/clients", fleet.document("w1"))
    browser.open(console(node) + "#/client/w1")
    browser.see("Waits for")
    browser.see('"subscriptions"')  # its configuration
    assert browser.text("main > div > .error") == ""
    browser.go("client/%E0%A4%A")
    browser.see("there is no client")


@needs_browser
def test_all_clients_that_match_are_paused_after_their_number_was_shown(fleet, browser):
    node = fleet.start_node("m1")
    ids = fleet.online(3, labels={"site": "oslo"})
    [other] = fleet.online(1, prefix="other")
    browser.open(console(node) + "#/clients?label.site=oslo")
    browser.see("3 clients found")
    browser.press("Actions for all that match")
    browser.press("Pause")
    browser.see("Pause: 3 clients?", "dialog")
    browser.press("Pause", "dialog")
    for client in ids:
        fleet.api.wait_state(client, "paused")
    browser.see("3 / 3")
    browser.see("done")
    assert fleet.api.state(other) == "online"
    browser.go("clients?label.site=oslo")
    browser.press("Actions for all that match")
    browser.enter("Fields to change (JSON; null removes one)", '{"keepalive_s": 44}')
    browser.press("Change fields")
    browser.see("Change fields: 3 clients?", "dialog")
    browser.press("Change fields", "dialog")
    browser.see("patch label.site=oslo")  # the page of the operations
    wait_until(lambda: all(fleet.api.client(one)["config"].get("keepalive_s") == 44 for one in ids), 60, "all are changed")
    assert "keepalive_s" not in fleet.api.client(other)["config"]
    browser.go(f"client/{ids[0]}")
    browser.see("anonymous", "main")


@needs_browser
def test_sinks_and_routes_are_changed_and_explained(fleet, browser, tmp_path):
    node = fleet.start_node("m1", sink__files_allow=tmp_path)
    browser.open(console(node) + "#/sinks")
    browser.press("New sink")
    browser.enter("name", "archive")
    browser.enter("Document (JSON)", json.dumps({"type": "file", "path": "relative"}))
    browser.press("Review changes")
    browser.see("/path")
    browser.enter("Document (JSON)", json.dumps({"type": "file", "path": str(tmp_path / "a.ndjson")}))
    browser.press("Review changes")
    browser.press("Save")
    browser.see("archive")
    browser.go("routes")
    browser.enter("Routes", json.dumps([{"name": "all", "match": {"topic": "a/#"}, "to": ["archive"]}]))
    browser.press("Review changes")
    browser.press("Save")
    wait_until(lambda: fleet.api.post("/api/v1/routes:explain", {"topic": "a/b"}).json()["to"] == ["archive"], 60,
               "the routes are in effect")
    browser.enter("topic", "a/b")
    browser.press("Explain")
    browser.see("all")
    browser.see("archive")


@needs_browser
def test_a_profile_is_created_changed_with_its_clients_and_deleted_without_them(fleet, browser):
    node = fleet.start_node("m1")
    stored = lambda: fleet.api.get("/api/v1/client-profiles/plant").json()["config"]
    browser.open(console(node) + "#/profiles")
    browser.press("New profile")
    browser.press("Review changes")
    browser.see("needs a name")
    browser.enter("name", HOSTILE_ID)
    browser.enter("Document (JSON)", json.dumps({"url": fleet.broker.url, "keepalive_s": 30, "labels": {"x": HOSTILE}}))
    browser.press("Review changes")
    browser.see("the name of a profile must be")
    browser.enter("name", "plant")
    browser.press("Review changes")
    browser.press("Save")
    browser.see("keepalive_s, labels, url")
    fleet.api.create([{"id": client, "client_id": client, "profile": "plant"} for client in (HOSTILE_ID, "p2")])
    fleet.wait_online([HOSTILE_ID, "p2"])

    browser.press("plant")
    browser.see("2 clients with this profile")
    browser.see(json.dumps(HOSTILE), "pre")
    browser.press("Edit")
    browser.enter("Document (JSON)", json.dumps({**stored(), "keepalive_s": "no"}))
    browser.press("Review changes")
    browser.see("/keepalive_s")
    browser.enter("Document (JSON)", json.dumps({**stored(), "keepalive_s": 31}))
    browser.press("Review changes")
    browser.see("All of them would be valid")
    assert stored()["keepalive_s"] == 30
    browser.press("Save")
    browser.see('"keepalive_s": 31', "pre")
    browser.press("Delete")
    browser.press("Delete", "dialog")
    browser.see("2 clients name the profile plant", ".error")
    browser.see(HOSTILE_ID, ".error li")
    for client in (HOSTILE_ID, "p2"):
        fleet.api.delete(fleet.api.path(client))
    browser.press("Delete")
    browser.press("Delete", "dialog")
    browser.see("Nothing here")
    assert fleet.api.get("/api/v1/client-profiles").json()["profiles"] == []
    browser.go(f"profile/{quote(HOSTILE_ID)}")
    browser.see("there is no client profile")
    assert browser.driver.title != "owned" and not browser.all("main img")


@needs_browser
def test_dead_letters_are_replayed_and_deleted(fleet, browser):
    node = fleet.start_node("m1")
    for name, sink in (("kept", "default"), ("stuck", "gone"), ("third", "default")):
        fleet.redis.client.xadd("mqtt_dead", {
            "id": HOSTILE_ID, "client_id": name, "topic": f"t/{name}", "payload": HOSTILE, "qos": "1", "retain": "0", "node": "m1",
            "received_at_ms": "1764507600123", "broker": "b:1883", "dead_letter_sink": sink, "dead_letter_reason": HOSTILE,
            "dead_letter_at_ms": "1764507600123"})
    entry = next(one["entry"] for one in fleet.api.get("/api/v1/dead-letters").json()["dead_letters"] if one["topic"] == "t/third")
    browser.open(console(node) + "#/deadLetters")
    browser.see("3 dead letters wait")
    browser.see(HOSTILE, "td")
    browser.press(f"Delete {entry}")
    browser.see("Delete 1 dead letter?", "dialog")
    browser.press("Delete", "dialog")
    browser.see("2 dead letters wait")
    browser.press("Replay all that match")
    browser.see("Send 2 dead letters", "dialog")
    browser.press("Replay", "dialog")
    browser.see("1 replayed, 1 stay here")
    browser.see("this node has no such sink")
    browser.see("1 dead letter waits")
    wait_until(lambda: HOSTILE.encode() in fleet.stream.payloads(), 60, "the message is in the sink")
    assert browser.driver.title != "owned" and not browser.all("main img")


@needs_browser
def test_changes_of_all_clients_are_listed_and_filtered(fleet, browser, tmp_path):
    tokens = [make_token("alice", "operator"), make_token("bob", "admin")]
    node = fleet.start_node("m1", **guarded(tmp_path, [line for _, line in tokens]))
    for (token, _), ids in zip(tokens, (["a1", "a2"], [HOSTILE_ID])):
        node.api.use(token=token)
        for client in ids:
            assert node.api.post("/api/v1/clients", fleet.document(client)).status_code == 201
            assert node.api.put(node.api.path(client), fleet.document(client, keepalive_s=40)).status_code == 200
    assert node.api.delete(node.api.path("a1")).status_code == 204
    seconds, _ = fleet.redis.client.time()
    written = {"by": HOSTILE, "action": HOSTILE, "fields": [HOSTILE], "operation": HOSTILE}
    fleet.redis.client.hset("mqtt_fleet:audit", "hand", f"{seconds - 60}000 1 2 {json.dumps(written)}")
    fleet.redis.client.zadd("mqtt_fleet:audited", {"hand": (seconds - 60) * 1000})
    browser.open(console(node))
    browser.enter("token", tokens[1][0])
    browser.press("Sign in")
    browser.see("bob, admin", "#caller")
    browser.go("audit")
    browser.see(HOSTILE)
    rows = [line.split("\t") for line in browser.text("tbody").splitlines()]
    assert [row[1:5] for row in rows] == [
        ["bob", "a1", "delete", ""], ["alice", "a1", "replace", "keepalive_s"], ["alice", "a1", "create", ""],
        ["bob", HOSTILE_ID, "replace", "keepalive_s"], ["bob", HOSTILE_ID, "create", ""],
        ["alice", "a2", "replace", "keepalive_s"], ["alice", "a2", "create", ""],
        [HOSTILE, "hand", HOSTILE, HOSTILE]]
    browser.enter("by", "alice")
    browser.press("Search")
    wait_until(lambda: "bob" not in browser.text("tbody"), 40, "only the changes of alice")
    assert browser.text("tbody").count("alice") == 4
    browser.enter("action", "delete")
    browser.press("Search")
    browser.see("Nothing here")
    assert browser.driver.title != "owned" and not browser.all("main img")


@needs_browser
def test_a_file_is_imported_and_a_node_is_drained(fleet, browser, tmp_path):
    node = fleet.start_node("m1")
    fleet.start_node("m2")
    path = tmp_path / "clients.ndjson"
    path.write_text("\n".join(json.dumps(fleet.document(f"i{i}")) for i in range(250)) + '\n{"id": "bad"}\n')
    browser.open(console(node) + "#/new")
    browser.see("Import a file")
    browser.all("input[type=file]")[0].send_keys(str(path))
    browser.press("Import a file")
    browser.see("250 created, 0 changed, 0 unchanged, 1 failed")
    browser.go("nodes")
    browser.press("Drain m1")
    browser.press("Drain", "dialog")
    browser.see("draining")
    browser.press("Undrain m1")
    wait_until(lambda: fleet.api.get("/api/v1/nodes/m1").json()["state"] == "live", 30, "it is live again")


@needs_browser
def test_a_token_is_asked_for_and_decides_what_is_offered(fleet, browser, tmp_path):
    tokens = {role: make_token(f"{role}-1", role) for role in ("viewer", "admin")}
    scoped = make_token("acme", "operator")
    lines = [line for _, line in tokens.values()] + [scoped[1] + " scope=label.tenant=acme"]
    node = fleet.start_node("m1", **guarded(tmp_path, lines))
    node.api.use(token=tokens["admin"][0])
    for client, labels in (("acme-1", {"tenant": "acme"}), ("globex-1", {"tenant": "globex"})):
        assert node.api.post("/api/v1/clients", fleet.document(client, labels=labels)).status_code == 201

    def sign_in(token):
        browser.open(console(node))
        browser.see("Sign in")
        browser.enter("token", token)
        browser.press("Sign in")

    browser.driver.get(f"data:text/html,<main><a href='{console(node)}'>a page of another site</a></main>")
    browser.press("a page of another site")
    browser.see("Sign in")
    sign_in("wrong")
    browser.see("not valid")
    sign_in(tokens["viewer"][0])
    browser.see("viewer-1, viewer", "#caller")
    assert "New client" not in browser.text("#nav") and "Nodes" in browser.text("#nav")
    browser.go("operations")  # to which the audit trail links
    browser.see("Nothing here")
    browser.go("client/acme-1")
    browser.see("History")
    assert "Pause" not in browser.text("main") and "Edit" not in browser.text("main")
    browser.go("profiles")
    browser.see("Nothing here")
    assert "New profile" not in browser.text("main")
    sign_in(scoped[0])
    browser.see("label.tenant=acme", "#caller")
    browser.see("What needs attention")
    assert not {"Nodes", "Profiles"} & set(browser.text("#nav").split("\n")) and "The last hour" not in browser.text("main")
    browser.go("clients")
    browser.see("acme-1")
    assert "globex" not in browser.text("body")
    browser.press("Sign out", "#caller")
    browser.see("Sign in")
    kept = browser.driver.execute_script("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert scoped[0] not in kept


def see_charts(browser):
    """Three charts, each with its table."""
    def seen():
        shown = " ".join(browser.text("figure").split())
        assert re.search(r"Now Lowest Highest online 2 \d+ 2 connecting", shown), shown
        assert "Messages per second" in shown and "Payload bytes per second" in shown
        return len(browser.all("figure canvas")) >= 3
    wait_until(seen, 90, "the charts are drawn")


@needs_browser
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed")
def test_every_page_is_accessible_in_light_dark_and_on_a_phone(fleet, browser):
    node = fleet.start_node("m1")
    fleet.online(2)
    fleet.api.create({"id": "lost", "url": "mqtt://127.0.0.1:1", "client_id": "lost"})
    faults = []
    for scheme, width in (("light", 1280), ("dark", 400)):
        browser.size(width, 900)
        browser.scheme(scheme)
        for page in (*PAGES[1:], "client/c0", "client/lost", "fleet"):  # a fleet has its first samples after 20 s
            browser.open(console(node) + f"#/{page}")
            wait_until(lambda: browser.text("main") and "Loading" not in browser.text("main"), 40, f"{page} is shown")
            if page == "fleet":
                see_charts(browser)
            assert browser.loaded(LIBRARY) == (page == "fleet"), page
            browser.driver.execute_script(AXE.read_text())
            found = browser.driver.execute_async_script(
                "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(done, (error) => done({violations: [{id: String(error), nodes: []}]}))", RULES)
            faults += [(scheme, page, one["id"], [node_["html"][:120] for node_ in one["nodes"]][:3]) for one in found["violations"]]
            wide = browser.driver.execute_script("return document.documentElement.scrollWidth > innerWidth + 1")
            assert not wide, f"{page} is wider than a phone"
    browser.size(1280, 900)
    browser.scheme("light")
    assert faults == []
    assert [line for line in browser.log() if "Content Security Policy" in line] == []
