"""The type postgres with a real server: nothing missing, nothing twice with a key, each client in order, and only
messages that PostgreSQL refuses for their content become dead letters."""

import json
import socket
import time

import pytest

from fleet.certificates import Authority
from fleet.postgres import PASSWORD, ROLE, Postgres, PostgresServer
from fleet.publisher import Publisher
from fleet.wait import holds_for, wait_until

DEAD = "mqtt_dead"
TIMEOUT_MS = 2000
SEQ = Postgres.SEQ


@pytest.fixture(scope="session")
def postgres_authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("postgres-authority"))


@pytest.fixture(scope="session")
def postgres_server(postgres_authority):
    if PostgresServer.missing():
        pytest.skip(f"{PostgresServer.missing()} is not installed")
    server = PostgresServer(postgres_authority)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres(postgres_server):
    if not postgres_server.running:
        postgres_server.start()
    yield Postgres(postgres_server)
    postgres_server.resume()


def new_node(fleet, postgres, **fields):
    """Of the sink pg; a field may be a map."""
    settings = {"type": "postgres", "url": postgres.url, "password": PASSWORD, "table": "messages",
                "timeout_ms": str(TIMEOUT_MS), **fields}
    path = fleet.folder / f"postgres{len(fleet.nodes)}.yml"
    path.write_text(json.dumps({"sinks": {"pg": {name: value for name, value in settings.items() if value}}}))
    return fleet.new_node(config=path)


def start_node(fleet, postgres, **fields):
    return new_node(fleet, postgres, **fields).start()


def online(fleet, count=1):
    """Clients with the sink, in sessions that last."""
    clients = fleet.create(count, sink="pg", make=fleet.persistent)
    fleet.wait_online(clients)
    return clients


def publish(fleet, client, payloads):
    fleet.broker.publish_all([(f"t/{client}/x", payload if isinstance(payload, bytes) else payload.encode())
                              for payload in payloads])


def dead_letters(fleet):
    return [fields for _, fields in fleet.redis.bytes_client.xrange(DEAD)]


def wait_dead(fleet, count):
    wait_until(lambda: len(dead_letters(fleet)) >= count, 60, f"{count} dead letters")
    letters = dead_letters(fleet)
    assert len(letters) == count
    return letters


def wait_rows(postgres, count, table="messages"):
    wait_until(lambda: postgres.count(table) >= count, 60, f"{count} rows", poll_s=0.2)
    assert postgres.count(table) == count


def ready_text(node):
    return node.api.get("/readyz?verbose").text


def wait_failing(node, text):
    wait_until(lambda: text in ready_text(node), 30, f"the reason {text}")


def wait_working(node):
    wait_until(lambda: "[+]sink.pg ok" in ready_text(node), 30, "the sink works")


def payload_of(row):
    return bytes.fromhex(row["payload"][2:])


# ---- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_conflict", ["error", "nothing"])
def test_a_row_has_what_the_message_had_whatever_its_bytes_are(fleet, postgres, on_conflict):
    postgres.create(f"CREATE TABLE messages ({SEQ}, message_id text PRIMARY KEY, id text, topic text, payload bytea, "
                    "copy bytea, words text, qos smallint, retain boolean, received_at timestamptz)")
    columns = {"message_id": "{message_id}", "id": "{id}", "topic": "{topic}", "payload": "{payload}",
               "copy": "{payload}", "words": "\\N {user.words|\"none\"}\ta,{{b}}\\-", "qos": "{qos}",
               "retain": "{retain}", "received_at": "{received_at}"}
    start_node(fleet, postgres, columns=columns, on_conflict=on_conflict)
    [client] = online(fleet)
    payloads = [bytes(range(256)), b"", b"\\N", b"\\.", b"a\tb\nc\rd\\e", b'{"a": "NULL"}',
                "\u00fcml\u00e4ut \U0001f600".encode(), b"x" * 300000]
    publish(fleet, client, payloads)
    wait_rows(postgres, len(payloads))
    rows = postgres.rows()
    assert sorted(map(payload_of, rows)) == sorted(payloads)
    assert all(row["copy"] == row["payload"] for row in rows)
    assert {row["words"] for row in rows} == {"\\N \"none\"\ta,{b}\\-"}
    assert {(row["id"], row["topic"], row["qos"], row["retain"]) for row in rows} == {
        (client, f"t/{client}/x", 1, False)}
    assert not dead_letters(fleet)


def test_the_default_columns_fit_the_table_of_the_documentation(fleet, postgres):
    postgres.create()
    start_node(fleet, postgres)
    [client] = online(fleet)
    publish(fleet, client, [b"%d" % number for number in range(1000)])
    wait_rows(postgres, 1000)
    numbers = [int(payload_of(row)) for row in postgres.rows()]
    assert numbers == list(range(1000)), "in order"


def test_a_missing_value_rejects_or_is_null(fleet, postgres):
    postgres.create("CREATE TABLE messages (message_id text, celsius numeric(4,1), site text)")
    columns = {"message_id": "{message_id}", "celsius": "{json./t}", "site": "{label.site|unknown}"}
    start_node(fleet, postgres, columns=columns)
    [client] = online(fleet)
    publish(fleet, client, ['{"t": 21.5}', '{"u": 1}', "no JSON", '{"t": -3}'])
    wait_rows(postgres, 2)
    assert [row["celsius"] for row in postgres.rows(order="celsius")] == [-3.0, 21.5]
    letters = wait_dead(fleet, 2)
    assert {letter[b"dead_letter_reason"] for letter in letters} == {b"column celsius: the message has no json./t"}


def test_a_missing_value_may_be_null(fleet, postgres):
    postgres.create("CREATE TABLE messages (message_id text, celsius numeric(4,1))")
    start_node(fleet, postgres, columns={"celsius": "{json./t}"}, missing="null")
    [client] = online(fleet)
    publish(fleet, client, ['{"t": 21.5}', "no JSON"])
    wait_rows(postgres, 2)
    assert {row["celsius"] for row in postgres.rows(order="celsius")} == {21.5, None}


# ---- bad rows -----------------------------------------------------------------------------------

POISONED = (f"CREATE TABLE messages ({SEQ}, number bigint PRIMARY KEY, celsius numeric(4,1) CHECK (celsius < 100), "
            "words varchar(5))")
POISONED_COLUMNS = {"number": "{json./n}", "celsius": "{json./c}", "words": "{json./w}"}


def reading(number, celsius=1, words="ok"):
    return json.dumps({"n": number, "c": celsius, "w": words})


@pytest.mark.parametrize("on_conflict", ["error", "nothing"])
def test_bad_rows_among_a_thousand_become_dead_letters_with_their_reasons(fleet, postgres, on_conflict):
    postgres.create(POISONED)
    start_node(fleet, postgres, columns=POISONED_COLUMNS, on_conflict=on_conflict)
    [client] = online(fleet)
    payloads = [reading(number) for number in range(1000)]
    poisoned = {100: (reading(100, celsius="warm-secret"), b"22P02"), 300: (reading(300, celsius=12345), b"22003"),
                301: (reading(301, celsius=150), b"23514"), 500: (reading(500, words="too long"), b"22001"),
                700: (reading(700, words="a\0b"), b"U+0000")}
    if on_conflict == "error":
        poisoned[900] = (reading(899), b"23505")
    for number, (payload, _) in poisoned.items():
        payloads[number] = payload
    publish(fleet, client, payloads)
    wait_rows(postgres, 1000 - len(poisoned))
    expected = [number for number in range(1000) if number not in poisoned]
    assert [row["number"] for row in postgres.rows()] == expected, "in order"
    letters = {letter[b"payload"].decode(): letter[b"dead_letter_reason"] for letter in wait_dead(fleet, len(poisoned))}
    for payload, reason in poisoned.values():
        assert reason in letters[payload], letters[payload]
        assert b"warm-secret" not in letters[payload] and b"12345" not in letters[payload]


def test_twenty_bad_rows_in_a_batch_cost_the_others_nothing(fleet, postgres):
    """A lock lets the messages gather, so that batches are full."""
    postgres.create(f"CREATE TABLE messages ({SEQ}, document jsonb)")
    start_node(fleet, postgres, columns={"document": "{payload}"})
    [client] = online(fleet)
    payloads = [f'{{"n": {number}}}' if number % 20 else f"broken {number}" for number in range(1000)]
    with postgres.locked():
        publish(fleet, client, payloads)
    good = [number for number in range(1000) if number % 20]
    wait_rows(postgres, len(good))
    assert [row["document"]["n"] for row in postgres.rows()] == good, "in order"
    letters = wait_dead(fleet, 50)
    assert [letter[b"payload"].decode() for letter in letters] == payloads[::20]


def test_errors_without_a_line_are_found_row_by_row(fleet, postgres):
    """Those of constraints that are checked at the end, and of a limit of an index."""
    postgres.query("CREATE TABLE sites (name text PRIMARY KEY); INSERT INTO sites VALUES ('a')")
    postgres.create("CREATE TABLE messages (number bigint UNIQUE DEFERRABLE INITIALLY DEFERRED, "
                    "site text REFERENCES sites, words text UNIQUE)")
    start_node(fleet, postgres, columns={"number": "{json./n}", "site": "{json./s}", "words": "{json./w|}{message_id}"})
    [client] = online(fleet)

    def line(number, site="a", words=""):
        return json.dumps({"n": number, "s": site, "w": words})

    incompressible = "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(2000))
    payloads = [line(number) for number in range(300)]
    payloads[10], payloads[120], payloads[200] = line(10, "b"), line(119), line(200, "a", incompressible)
    publish(fleet, client, payloads)
    wait_rows(postgres, 297)
    reasons = sorted(letter[b"dead_letter_reason"][-6:-1] for letter in wait_dead(fleet, 3))
    assert reasons == [b"23503", b"23505", b"54000"]


def test_a_missing_partition_rejects_nothing(fleet, postgres):
    postgres.create("CREATE TABLE messages (number bigint) PARTITION BY RANGE (number)")
    postgres.query("CREATE TABLE low PARTITION OF messages FOR VALUES FROM (0) TO (10)")
    node = start_node(fleet, postgres, columns={"number": "{payload}"})
    [client] = online(fleet)
    publish(fleet, client, ["1", "11"])
    wait_failing(node, "no partition of relation")
    assert not dead_letters(fleet)
    postgres.query("CREATE TABLE high PARTITION OF messages FOR VALUES FROM (10) TO (20)")
    wait_rows(postgres, 2)


# ---- errors that are tried again ----------------------------------------------------------------


def test_a_table_that_is_dropped_and_made_again_misses_nothing(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres)
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    postgres.query("DROP TABLE messages")
    publish(fleet, client, ["2", "3"])
    wait_failing(node, "does not exist")
    postgres.create("CREATE TABLE messages (message_id text)")
    wait_failing(node, "has no column")
    postgres.query("DROP TABLE messages")
    postgres.create()
    wait_rows(postgres, 2)
    wait_working(node)
    assert not dead_letters(fleet)


def test_a_role_that_loses_its_right_and_gets_it_back(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres)
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    postgres.query(f"REVOKE INSERT ON messages FROM {ROLE}")
    publish(fleet, client, ["2"])
    wait_failing(node, "permission denied for table messages (42501)")
    postgres.query(f"GRANT INSERT ON messages TO {ROLE}")
    wait_rows(postgres, 2)
    assert not dead_letters(fleet)


def test_a_database_that_is_read_only_for_a_while(fleet, postgres):
    """As after a failover; the sink connects anew, because the other server may be the one that takes rows."""
    postgres.create()
    node = start_node(fleet, postgres)
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    postgres.query(f"ALTER DATABASE {postgres.database} SET default_transaction_read_only = on")
    postgres.end_connections()
    publish(fleet, client, ["2"])
    wait_failing(node, "read-only transaction (25006)")
    postgres.server.query("postgres", f"ALTER DATABASE {postgres.database} RESET default_transaction_read_only")
    wait_rows(postgres, 2)
    assert not dead_letters(fleet)


def test_a_table_that_somebody_locks_is_given_up_by_the_server_and_doubles_nothing(fleet, postgres):
    """Without a key: if the server went on after the sink gave up, rows would come twice."""
    postgres.create(f"CREATE TABLE messages ({SEQ}, number bigint)")
    node = start_node(fleet, postgres, columns={"number": "{payload}"}, timeout_ms="600")
    [client] = online(fleet)
    with postgres.locked():
        publish(fleet, client, ["1", "2", "3"])
        wait_failing(node, "statement timeout (57014)")
        time.sleep(3)
        assert len(postgres.query(f"SELECT 1 FROM pg_stat_activity WHERE usename = '{ROLE}' AND datname = "
                                  f"'{postgres.database}'")) <= 1, "no connections pile up"
    wait_rows(postgres, 3)
    assert [row["number"] for row in postgres.rows()] == [1, 2, 3]


# ---- the server goes away -----------------------------------------------------------------------


def published(fleet, clients, count, during):
    """Numbered messages, each client in turn; the payloads that mosquitto has acknowledged."""
    publisher = fleet.closing(Publisher(fleet.broker, [f"t/{client}/x" for client in clients], 500))
    wait_until(lambda: publisher.sent >= count / 4, 60, "a quarter is sent")
    during()
    wait_until(lambda: publisher.sent >= count, 120, f"{count} are sent")
    return publisher.stop()


def check_once_and_in_order(postgres, clients, sent):
    wait_until(lambda: {payload_of(row) for row in postgres.rows()} == sent, 60, "all rows", poll_s=0.5)
    rows = postgres.rows()
    assert len(rows) == len(sent), "none twice"
    for client in clients:
        numbers = [int(payload_of(row).split(b":")[1]) for row in rows if row["id"] == client]
        assert numbers == sorted(numbers), f"{client} is out of order"


def test_connections_that_are_ended_in_the_middle_lose_and_double_nothing(fleet, postgres):
    postgres.create()
    start_node(fleet, postgres, on_conflict="nothing")
    clients = online(fleet, 3)

    def during():
        ended = 0
        while ended < 10:
            ended += postgres.end_connections()
            time.sleep(0.05)

    check_once_and_in_order(postgres, clients, published(fleet, clients, 2000, during))
    assert not dead_letters(fleet)


def test_a_killed_server_loses_and_doubles_nothing(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres, on_conflict="nothing")
    clients = online(fleet, 3)

    def during():
        postgres.server.kill()
        wait_failing(node, "refused")
        postgres.server.start()

    check_once_and_in_order(postgres, clients, published(fleet, clients, 2000, during))


def test_a_killed_node_loses_nothing(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres, on_conflict="nothing")
    clients = online(fleet, 3)

    def during():
        node.kill()
        node.start()

    sent = published(fleet, clients, 2000, during)
    wait_until(lambda: {payload_of(row) for row in postgres.rows()} == sent, 60, "all rows", poll_s=0.5)


def test_a_stopped_server_holds_only_its_own_clients_and_no_stop_of_the_node(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres)
    [client] = online(fleet)
    [other] = fleet.online(1, "other")
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    postgres.server.pause()
    publish(fleet, client, ["2"])
    publish(fleet, other, ["3"])
    fleet.stream.wait_payloads([b"3"])
    wait_failing(node, f"within {TIMEOUT_MS} ms")
    began = time.monotonic()
    assert node.terminate() == 0
    assert time.monotonic() - began < 30
    postgres.server.resume()
    node.start()
    wait_until(lambda: {payload_of(row) for row in postgres.rows()} == {b"1", b"2"}, 60, "both rows")


def test_a_promoted_standby_takes_over_without_loss_and_doubles(fleet):
    """The primary answers a commit once its standby has it, as one that is to lose nothing must."""
    primary = PostgresServer().start()
    fleet.at_end(primary.close)
    postgres = Postgres(primary).create()
    standby = PostgresServer(primary=primary).start()
    fleet.at_end(standby.close)
    primary.query("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.query("postgres", "SELECT pg_reload_conf()")
    wait_until(lambda: primary.query("postgres", "SELECT sync_state FROM pg_stat_replication") == ["sync"], 30,
               "the standby")
    node = start_node(fleet, postgres, on_conflict="nothing", url=f"postgresql://{ROLE}@127.0.0.1:{standby.port},"
                      f"127.0.0.1:{primary.port}/{postgres.database}?target_session_attrs=read-write")
    clients = online(fleet, 3)

    def during():
        primary.kill()
        wait_failing(node, "failed")
        standby.promote()

    sent = published(fleet, clients, 2000, during)
    postgres.server = standby
    check_once_and_in_order(postgres, clients, sent)
    assert not dead_letters(fleet)


def test_a_standby_alone_is_an_error_and_no_rejection(fleet, postgres_server):
    primary = PostgresServer().start()
    fleet.at_end(primary.close)
    postgres = Postgres(primary).create()
    standby = PostgresServer(primary=primary).start()
    fleet.at_end(standby.close)
    node = start_node(fleet, postgres, url=postgres.url.replace(str(primary.port), str(standby.port)))
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_failing(node, "(25006)")
    standby.promote()
    postgres.server = standby
    wait_rows(postgres, 1)
    assert not dead_letters(fleet)


def test_a_host_that_accepts_and_is_silent_gives_way_to_the_next_one(fleet, postgres):
    postgres.create()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{postgres.server.port}"
        start_node(fleet, postgres, url=f"postgresql://{ROLE}@{hosts}/{postgres.database}")
        [client] = online(fleet)
        publish(fleet, client, ["1"])
        wait_rows(postgres, 1)


# ---- a test of settings -------------------------------------------------------------------------


def test_a_test_of_settings_finds_the_step_that_fails_and_writes_nothing(fleet, postgres):
    postgres.create()
    node = fleet.start_node()

    def steps(**fields):
        document = {"type": "postgres", "url": postgres.url, "password": PASSWORD, "table": "messages",
                    "timeout_ms": TIMEOUT_MS, **fields}
        answer = node.api.post("/api/v1/sinks:test", document)
        assert answer.status_code == 200 and PASSWORD not in answer.text, answer.text
        assert all(step["ok"] or step["advice"] for step in answer.json()["steps"])
        last = answer.json()["steps"][-1]
        return last["step"], last["ok"], last["detail"]

    assert steps() == ("permission", True, "the role may insert rows")
    assert steps(password="wrong")[:2] == ("connect", False)
    assert steps(url=postgres.url.replace(postgres.database, "nowhere"))[:2] == ("connect", False)
    assert steps(url="postgresql://u@no.such.host.invalid/d")[:2] == ("resolve", False)
    assert steps(table="none") == ("table", False, "table none does not exist")
    assert steps(columns={"missing": "{id}"}) == ("table", False, "table messages has no column missing")
    assert steps(url=f"{postgres.url}?sslkey=x")[:2] == ("settings", False)
    postgres.query(f'REVOKE INSERT ON messages FROM {ROLE}; GRANT INSERT (id, topic) ON messages TO {ROLE}')
    assert steps(columns={"id": "{id}", "topic": "{topic}"})[1]
    assert steps(columns={"id": "{id}", "qos": "{qos}"}) == (
        "permission", False, "the role may not insert into the columns qos")
    postgres.query(f"GRANT INSERT ON messages TO {ROLE}; "
                   f"ALTER DATABASE {postgres.database} SET default_transaction_read_only = on")
    assert steps() == ("permission", False, "the server takes no rows: it is read-only")
    assert postgres.count() == 0


# ---- security -----------------------------------------------------------------------------------


def test_verify_full_accepts_only_the_right_authority_and_name(fleet, postgres, postgres_authority, tmp_path):
    postgres.create()
    url = f"{postgres.url}?sslmode=verify-full"
    strange = Authority(tmp_path / "strange")
    refused = start_node(fleet, postgres, url=url, tls_ca=strange.ca.read_text())
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_failing(refused, "certificate verify failed")
    refused.terminate()
    of_system = start_node(fleet, postgres, url=url)
    wait_failing(of_system, "certificate verify failed")
    of_system.terminate()
    start_node(fleet, postgres, url=url.replace("127.0.0.1", "localhost"), tls_ca=postgres_authority.ca.read_text())
    wait_rows(postgres, 1)
    assert postgres.query(f"SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                          f"WHERE usename = '{ROLE}' AND datname = '{postgres.database}'") == ["t"]


def test_passwords_and_payloads_are_in_no_log_and_no_printed_configuration(fleet, postgres):
    postgres.create(f"CREATE TABLE messages ({SEQ}, number bigint)")
    url = postgres.url.replace("@", ":in-url-hushhush?@")
    node = start_node(fleet, postgres, url=url, password=None, columns={"number": "{payload}"})
    [client] = online(fleet)
    publish(fleet, client, ["payload-hushhush"])
    wait_failing(node, "password authentication failed")
    node.terminate()
    node = start_node(fleet, postgres, columns={"number": "{payload}"})
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    wait_dead(fleet, 1)
    texts = [one.log() for one in fleet.nodes] + [ready_text(node), node.api.get("/metrics").text]
    for one in fleet.nodes:
        texts += one.run_to_end("--print-config")
    for text in texts:
        assert "hushhush" not in text and PASSWORD not in text, text[:2000]


@pytest.mark.parametrize("url, fault", [
    ("postgresql://u@h/d?service=x", "url must not have the parameter service"),
    ("postgresql://u@h/d?sslkey=/etc/passwd", "url must not have the parameter sslkey"),
    ("postgresql://u@h/d?sslrootcert=/etc/passwd", "url: sslrootcert must be one of system"),
    ("postgresql://u@h/d?sslmode=maybe", "url: sslmode must be one of"),
    ("postgresql://u@h/d?sslmode=verify-ca", "url: the CA certificates of the system need sslmode=verify-full"),
    ("postgresql://%2Frun%2Fpostgresql/d", "url must name the hosts"),
    ("postgresql:///d", "url must name the hosts"),
    ("host=h password=hushhush", "url must be postgresql://"),
    ("postgresql://u:hush%zzhush@h/d", "url must be postgresql://"),
    ("postgresql://u:hushhush@h/d", "password must not be given twice"),
])
def test_an_address_names_no_files_and_its_faults_no_secrets(fleet, postgres, url, fault):
    node = new_node(fleet, postgres, url=url)
    assert node.start_and_end() != 0
    assert "sinks.pg." + fault.replace("url: ", "url ") in node.log(), node.log()
    assert "hush" not in node.log()


def test_notices_are_logged_at_a_bounded_rate(fleet, postgres):
    postgres.create(f"CREATE TABLE messages ({SEQ}, number bigint)")
    postgres.query("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
                   "$$BEGIN RAISE NOTICE 'heard %', NEW.number; RETURN NEW; END$$; "
                   "CREATE TRIGGER shout BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION shout()")
    node = start_node(fleet, postgres, columns={"number": "{payload}"})
    [client] = online(fleet)
    publish(fleet, client, [str(number) for number in range(500)])
    wait_rows(postgres, 500)
    wait_until(lambda: 0 < node.log().count("event=postgres_notice ") <= 20, 10, "a few lines")


def test_an_idle_connection_that_the_server_ends_is_no_failure(fleet, postgres):
    postgres.create()
    node = start_node(fleet, postgres)
    [client] = online(fleet)
    publish(fleet, client, ["1"])
    wait_rows(postgres, 1)
    postgres.end_connections()
    time.sleep(3)  # maintenance of the sink is once a second
    publish(fleet, client, ["2"])
    wait_rows(postgres, 2)
    assert "sink_failing" not in node.log()
