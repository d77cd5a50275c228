"""Publishes numbered QoS 1 or 2 messages at a steady rate and records which ones the broker acknowledged."""

import itertools
import threading

from .mqtt_client import new_client, on_publish
from .wait import wait_until


class Publisher:
    """Payloads are b"<name>:<number>", topics taken in turn. A broken connection is reopened, and
    unacknowledged messages are sent again."""

    def __init__(self, broker, topics, rate_per_s=100, name="publisher", qos=1):
        self.name = name
        self.qos = qos
        self.interval_s = 1 / rate_per_s
        self.topics = itertools.cycle(topics)
        self.acknowledged = set()
        self.sent = 0
        self._payload_of = {}
        self._early = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._client = new_client(f"{name}-publisher", clean_session=False)
        # Mosquitto closes the connection of a client with more than 20 QoS 2 messages in transit.
        self._client.max_inflight_messages_set(20 if qos == 2 else 1000)
        self._client.reconnect_delay_set(min_delay=0.1, max_delay=0.2)
        on_publish(self._client, self._on_publish)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping.wait(self.interval_s):
            self._publish_next()

    def make_payload(self, number):
        return b"%s:%d" % (self.name.encode(), number)

    def _publish_next(self):
        payload = self.make_payload(self.sent)
        self.sent += 1
        # Not under this lock: the library calls back under its own lock.
        info = self._client.publish(next(self.topics), payload, qos=self.qos)
        with self._lock:
            if info.mid in self._early:
                self._early.remove(info.mid)
                self.acknowledged.add(payload)
            else:
                self._payload_of[info.mid] = payload

    def _on_publish(self, mid):
        with self._lock:
            payload = self._payload_of.pop(mid, None)
            if payload is None:
                self._early.add(mid)  # the answer was faster than publish() returned
            else:
                self.acknowledged.add(payload)

    def stop(self):
        """Returns the payloads the broker acknowledged, after all were or 20 s have passed."""
        self._stopping.set()
        self._thread.join()
        wait_until(lambda: len(self.acknowledged) == self.sent, 20, "all published acknowledged")
        self._client.disconnect()
        self._client.loop_stop()
        return self.acknowledged

    def close(self):
        """Ends it without looking at the outcome; harmless after stop()."""
        self._stopping.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
