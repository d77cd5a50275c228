"""Clients' secrets: encrypted in Redis, or left where the node that connects finds them."""

import json
import signal
import subprocess

from fleet.node import BINARY, environment
from fleet.wait import holds_for, wait_until

WORD = "correct-horse-7f3a"


def new_key():
    return subprocess.run([BINARY, "--new-key"], capture_output=True, text=True,
                          check=True).stdout.strip()


def key_file(fleet, *lines, name="keys"):
    path = fleet.folder / name
    path.write_text("".join(line + "\n" for line in lines))
    path.chmod(0o600)
    return path


def guarded(fleet):
    """A broker that requires the password."""
    return fleet.start_broker(users={"u": WORD})


def document(fleet, client="c", **more):
    return fleet.document(client, username="u", **{"password": WORD, **more})


def stored(fleet, client="c"):
    redis = fleet.redis.client
    text = redis.hget("mqtt_config:use", client) or redis.hget("mqtt_config:no", client)
    return json.loads(text) if text else None


def everything_in(redis):
    """Each key's serialized value: compression off, so that a word in it can be seen."""
    redis.config_set("rdbcompression", "no")
    return b"".join(redis.dump(key) or b"" for key in redis.scan_iter())


def test_no_secret_is_plain_in_redis_and_the_client_works_as_before(fleet):
    guarded(fleet)
    keys = key_file(fleet, new_key())
    first, second = fleet.start_nodes(2, secrets__key_file=keys)
    created = first.api.create(document(fleet), wait_ms=20000)
    assert created["config"]["password"] == "***"
    first.api.wait_state("c", "online")
    assert stored(fleet)["password"].startswith(f"enc:v1:{keys.read_text().split(':')[0]}:")
    assert WORD.encode() not in everything_in(fleet.redis.bytes_client)
    # The same again, from another node and in another spelling: unchanged.
    again = second.api.post("/api/v1/clients", document(fleet))
    assert again.status_code == 200 and again.json()["version"] == created["version"]
    spelled = document(fleet)
    spelled["subscriptions"][0].update(qos=1)
    assert second.api.post("/api/v1/clients", dict(reversed(spelled.items()))).status_code == 200
    assert first.api.post("/api/v1/clients", document(fleet, password="x")).status_code == 409
    # The document is written back as it was read: nothing changes.
    mark = fleet.broker.mark()
    shown = first.api.client("c")["config"]
    answer = first.api.put(first.api.path("c"), {**shown, "labels": {"a": "b"}})
    assert answer.status_code == 200 and answer.json()["version"] > created["version"], answer.text
    assert first.api.post(first.api.path("c", "pause")).status_code == 200
    assert first.api.post(first.api.path("c", "resume")).status_code == 200
    # The owner dies: the other node has the key too.
    owner = first.api.client("c")["placement"]["node"]
    dying, living = (first, second) if owner == first.name else (second, first)
    dying.kill()
    wait_until(lambda: fleet.shared().owner.get("c") == living.name, 30, "moved")
    living.api.wait_state("c", "online")
    assert "c" in fleet.broker.connects(mark)
    for node in (first, second):
        assert WORD not in node.log()


def test_keys_are_rotated_while_clients_stay_connected(fleet):
    guarded(fleet)
    old, new = new_key(), new_key()
    keys = key_file(fleet, old)
    node = fleet.start_node(secrets__key_file=keys)
    plain = document(fleet, "plain")
    fleet.redis.client.hset("mqtt_config:no", "plain", json.dumps(plain))  # written by hand
    created = node.api.create(document(fleet))
    fleet.wait_online(["c", "plain"])
    assert stored(fleet, "plain")["password"] == WORD  # left as it was written
    mark = fleet.broker.mark()
    web = {"type": "http", "url": "http://127.0.0.1:9/a", "username": "u", "password": WORD,
           "headers": {"X-Token": WORD}}
    assert node.api.put("/api/v1/sinks/web", web).status_code == 201
    key_file(fleet, new, old)
    node.signal(1)
    wait_until(lambda: "reloaded" in node.log(), 10)
    # The same again, encrypted with another key now; also for Go IoT's callers.
    assert node.api.post("/api/v1/clients", document(fleet)).json()["version"] == created["version"]
    assert node.api.post("/public_create_mqtt", document(fleet)).json()["status"] == 200
    done = node.api.post("/api/v1/clients:reencrypt").json()
    assert (done["reencrypted"], done["failed"], done["next_cursor"]) == (3, 0, None), done
    assert node.api.post("/api/v1/clients:reencrypt").json()["reencrypted"] == 0
    for client in ("c", "plain"):
        assert stored(fleet, client)["password"].startswith(f"enc:v1:{new.split(':')[0]}:")
    sink = str(fleet.redis.client.hgetall("mqtt_fleet:sinks"))
    assert sink.count(f"enc:v1:{new.split(':')[0]}:") == 2 and old.split(":")[0] not in sink, sink
    key_file(fleet, new)
    node.signal(1)
    wait_until(lambda: node.log().count("reloaded") == 2, 10)
    assert node.api.post("/api/v1/clients", document(fleet)).status_code == 200
    assert not fleet.broker.connects(mark), "nobody had to connect anew"
    assert node.api.post(node.api.path("c", "restart")).status_code == 202
    wait_until(lambda: fleet.broker.connects(mark)["c"] == 1, 20)
    key_file(fleet, "rubbish")  # a bad file changes nothing
    node.signal(1)
    wait_until(lambda: "reload_failed" in node.log(), 10)
    assert node.api.post("/api/v1/clients", document(fleet)).status_code == 200


def test_a_file_of_keys_that_was_moved_stays_in_force_and_is_the_nodes_own(fleet):
    guarded(fleet)
    first, moved = new_key(), new_key()
    key_file(fleet, first, name="first")
    config = fleet.folder / "node.yml"

    def settings(name):
        return (f"secrets: {{key_file: {fleet.folder / name}, files_allow: {fleet.folder}}}\n"
                "log: {level: debug}\n")

    config.write_text(settings("first"))
    node = fleet.start_node(config=config)

    def reload(word):
        mark = len(node.log())
        node.signal(signal.SIGHUP)
        wait_until(lambda: "event=reloaded" in node.log()[mark:], 10)
        assert word in node.log()[mark:]

    key_file(fleet, moved, name="moved")
    config.write_text(settings("moved"))
    reload("reloaded")
    config.write_text("surprise: 1\n")
    reload("reload_failed")
    config.write_text("")  # while an editor writes it
    reload("encryption ends only with a restart")
    node.api.create(document(fleet), wait_ms=20000)
    assert stored(fleet)["password"].startswith(f"enc:v1:{moved.split(':')[0]}:")
    for name in ("first", "moved", "node.yml"):  # none is for a broker
        node.api.create(document(fleet, name, password={"file": str(fleet.folder / name)}))
        error = node.api.wait_state(name, "backoff")["last_error"]
        assert error["code"] == "secret_unavailable" and "node itself" in error["message"], error


def test_a_node_without_the_key_says_so_and_leaves_the_client_to_others(fleet):
    guarded(fleet)
    keys = key_file(fleet, new_key())
    knowing = fleet.start_node("knowing", secrets__key_file=keys)
    knowing.api.create(document(fleet), wait_ms=20000)
    assert knowing.terminate() == 0
    mark = fleet.broker.mark()
    ignorant = fleet.start_node("ignorant")
    wait_until(lambda: fleet.shared().unplaced() == {"key_missing": 1}, 20, "the reason is told")
    holds_for(lambda: "client_given_back" not in ignorant.log(), 3, "it is not given the client")
    assert not fleet.broker.connects(mark)
    # Nor does it overwrite a secret that it cannot decrypt.
    shown = ignorant.api.client("c")["config"]
    answer = ignorant.api.put(ignorant.api.path("c"), {**shown, "keepalive_s": 30})
    assert answer.status_code == 422 and "/password" in answer.text, answer.text
    again = fleet.start_node("knowing", secrets__key_file=keys)
    again.api.wait_state("c", "online", 40)

    def told():
        problems = again.api.get("/api/v1/problems").json()["problems"]
        return [one["node"] for one in problems if one["code"] == "keys_differ"] == ["ignorant"]

    wait_until(told, 60, "case H: which node has not got the key")


def test_an_encrypted_word_does_not_work_for_another_client(fleet):
    guarded(fleet)
    node = fleet.start_node(secrets__key_file=key_file(fleet, new_key()))
    node.api.create(document(fleet), wait_ms=20000)
    moved = document(fleet, "thief", password=stored(fleet)["password"])
    answer = node.api.post("/api/v1/clients", moved)
    assert answer.status_code == 422 and "another client" in answer.text, answer.text
    fleet.redis.client.hset("mqtt_config:no", "thief", json.dumps(moved))
    status = wait_until(lambda: (lambda s: s["last_error"] and s)(node.api.status("thief")), 20)
    assert status["last_error"]["code"] == "secret_unreadable", status
    assert "thief" not in fleet.broker.connects()


def test_a_word_can_stay_in_a_file_or_a_variable_of_the_node(fleet, monkeypatch):
    guarded(fleet)
    monkeypatch.setenv("BROKER_WORD", WORD)
    folder = fleet.folder / "words"
    folder.mkdir()
    node = fleet.start_node(secrets__files_allow=folder, secrets__env_prefix="BROKER_",
                            reconnect_max_ms=1000)
    by_file = document(fleet, "file", password={"file": f"{folder}/word"})
    node.api.create([by_file, document(fleet, "env", password={"env": "BROKER_WORD"})])
    node.api.wait_state("env", "online")
    error = node.api.wait_state("file", "backoff")["last_error"]
    assert error["code"] == "secret_unavailable" and "words/word" in error["message"], error
    (folder / "word").write_text(WORD + "\n")
    node.api.wait_state("file", "online", 30)
    assert node.api.client("file")["config"]["password"] == {"file": f"{folder}/word"}
    assert WORD.encode() not in everything_in(fleet.redis.bytes_client)
    # Files and variables that the settings do not allow cannot be read, by any caller or in any
    # spelling.
    for source in ({"file": "/etc/shadow"}, {"file": f"{folder}/../keys"}, {"env": "HOME"}):
        assert node.api.post("/api/v1/clients",
                             document(fleet, "spy", password=source)).status_code == 422
    (folder / "link").symlink_to("/etc/passwd")
    mark = fleet.broker.mark()
    node.api.create(document(fleet, "spy", password={"file": f"{folder}/link"}))
    fleet.redis.client.hset("mqtt_config:no", "spy2", json.dumps(
        document(fleet, "spy2", password={"file": "/etc/passwd"})))
    for client in ("spy", "spy2"):
        error = node.api.wait_state(client, "backoff", 20)["last_error"]
        assert error["code"] == "secret_unavailable", error
    assert not {"spy", "spy2"} & set(fleet.broker.connects(mark))
    # Without settings, nothing at all.
    bare = fleet.start_node("bare")
    answer = bare.api.post("/api/v1/clients", by_file | {"id": "other", "client_id": "other"})
    assert answer.status_code == 422 and "secrets.files_allow" in answer.text


def test_a_bad_key_file_stops_the_start_with_one_line(fleet):
    path = key_file(fleet, "rubbish")
    for words in ([], ["--check-config"]):
        result = subprocess.run([BINARY, *words, "--set", f"secrets.key_file={path}"],
                                env=environment(), capture_output=True, text=True, timeout=30)
        assert result.returncode == 2 and str(path) in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_the_query_of_a_url_is_a_secret(fleet):
    node = fleet.start_node(secrets__key_file=key_file(fleet, new_key()))
    url = f"ws://127.0.0.1:9/mqtt?token={WORD}"
    created = node.api.create({"id": "c", "url": url})
    shown = created["config"]["url"]
    assert shown == "ws://127.0.0.1:9/mqtt?***"
    assert WORD.encode() not in everything_in(fleet.redis.bytes_client)
    assert node.api.post("/api/v1/clients", {"id": "c", "url": url}).status_code == 200
    other = {"id": "c", "url": url.replace(WORD, "x")}
    assert node.api.post("/api/v1/clients", other).status_code == 409
    path = node.api.path("c")
    assert node.api.put(path, {**created["config"], "labels": {"a": "b"}}).status_code == 200
    assert stored(fleet)["url"].startswith("ws://127.0.0.1:9/mqtt?enc:v1:")
    moved = {**created["config"], "url": shown.replace("127.0.0.1", "broker.example")}
    refused = node.api.put(path, moved)
    assert refused.status_code == 422 and "must have its query" in refused.text
    assert WORD not in node.log()


def test_files_of_the_node_are_no_certificates_for_clients(fleet):
    keys = key_file(fleet, new_key())
    node = fleet.start_node(secrets__key_file=keys, secrets__files_allow=keys.parent)
    answer = node.api.post("/api/v1/clients:test",
                           {"url": f"mqtts://127.0.0.1:{fleet.broker.port}",
                            "tls": {"ca": str(keys)}})
    failed = [step for step in answer.json()["steps"] if not step["ok"]]
    assert failed and "is a file of the node itself" in failed[0]["detail"], answer.text
