"""The answers of the API, from which S4 is verified, and the changes that produce them."""

import collections
import random
import threading
import time

import requests

ABSENT = None
ANSWER_S = 6
REST_S = 8  # after an unknown outcome the call may still be under way for so long


class Ledger:
    """For each id the revisions it may have in Redis: one, unless a call's outcome is unknown."""

    def __init__(self):
        self._possible = {}
        self._story = collections.defaultdict(list)
        self._lock = threading.Lock()

    def acknowledged(self, client, revision, by="the test"):
        with self._lock:
            self._possible[client] = {revision}
            self._story[client].append(f"{revision} acknowledged by {by}")

    def unknown(self, client, revision, by="the test"):
        with self._lock:
            self._possible.setdefault(client, {ABSENT}).add(revision)
            self._story[client].append(f"{revision} unknown by {by}")

    def of(self, client):
        with self._lock:
            return set(self._possible.get(client, {ABSENT}))

    def story(self, client):
        """Its last changes, to explain a failure."""
        return f"{client}: {'; '.join(self._story[client][-6:])}"

    def all(self):
        with self._lock:
            return {client: set(revisions) for client, revisions in self._possible.items()}

    def must_exist(self):
        return {client for client, revisions in self.all().items() if ABSENT not in revisions}

    def must_not_exist(self):
        return {client for client, revisions in self.all().items() if revisions == {ABSENT}}


class Changes:
    """Continuously creates, updates and deletes clients of its own pool through any node, and records the
    outcomes in the ledger. An impossible answer is a fault."""

    def __init__(self, stage, ledger, pool=30, rate_per_s=10, seed=0, prefix="x"):
        self._stage = stage
        self._ledger = ledger
        self._ids = [f"{prefix}{number:03d}" for number in range(pool)]
        self._interval_s = 1 / rate_per_s
        self._random = random.Random(seed)
        self._revision = 0
        self._rests_until = {}
        self._idle = threading.Event()
        self._go = threading.Event()
        self._stopping = False
        self.made = {"acknowledged": 0, "unknown": 0}
        self.faults = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self):
        self._idle.clear()
        self._go.set()

    def pause(self):
        """Returns when no call is in progress."""
        self._go.clear()
        self._idle.wait()

    def close(self):
        self._stopping = True
        self._go.set()
        self._thread.join()

    def _run(self):
        while not self._stopping:
            if not self._go.is_set():
                self._idle.set()
                self._go.wait(0.1)
                continue
            self._idle.clear()
            try:
                self._one()
            except Exception as error:  # must reach the test, whatever it is
                self.faults.append(f"the test's own change failed: {error!r}")
            time.sleep(self._interval_s)
        self._idle.set()

    def _one(self):
        nodes = self._stage.answering_nodes()
        client = self._random.choice(self._ids)
        if not nodes or self._rests_until.get(client, 0) > time.monotonic():
            return
        api = self._random.choice(nodes).api
        there = self._ledger.of(client)
        if there == {ABSENT}:
            self._write(api.post, "/api/v1/clients", client, {200, 201})
        elif self._random.random() < 0.6 or len(there) > 1:
            self._write(api.put, api.path(client), client, {200})
        else:
            self._delete(api, client)

    def _write(self, call, path, client, expected):
        self._revision += 1
        document = self._stage.revised(client, self._revision)
        self._account(client, self._revision, expected,
                      lambda: call(path, document, timeout=ANSWER_S))

    def _delete(self, api, client):
        self._account(client, ABSENT, {204},
                      lambda: api.delete(api.path(client), timeout=ANSWER_S))

    def _account(self, client, revision, expected, call):
        before = self._ledger.of(client)
        try:
            answer = call()
            code, text = answer.status_code, answer.text
        except requests.RequestException as error:
            code, text = 599, str(error)
        by = f"{code} at {time.strftime('%H:%M:%S')}"
        if code in expected:
            self._ledger.acknowledged(client, revision, by)
            self.made["acknowledged"] += 1
        elif code == 404 and ABSENT in before:
            self._ledger.acknowledged(client, ABSENT, by)
        elif code >= 500:
            self._ledger.unknown(client, revision, by)
            self._rests_until[client] = time.monotonic() + REST_S
            self.made["unknown"] += 1
        else:
            self.faults.append(f"S4: {client} as {before} to {revision}: {code} {text[:200]}")
