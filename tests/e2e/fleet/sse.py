"""A reader of server-sent events (text/event-stream), on a separate thread."""

import json
import socket
import threading

import requests

from .wait import PATIENCE, wait_until


class EventReader:
    """Reads until it is closed or the stream ends. events: [(event, data)], ids: of these, or None,
    comments: [text]."""

    def __init__(self, url, like=None, last_id=None, **params):
        """like: an Api whose token and trust are used. last_id: Last-Event-ID."""
        self.events, self.ids, self.comments, self.ended = [], [], [], False
        self.session = requests.Session()
        self.session.trust_env = False
        if like is not None:
            self.session.headers.update(like.session.headers)
            self.session.verify = like.session.verify
        if last_id is not None:
            self.session.headers["Last-Event-ID"] = last_id
        self.answer = self.session.get(url, params=params, stream=True, timeout=60 * PATIENCE)
        assert self.answer.status_code == 200, f"{self.answer.status_code} {self.answer.text}"
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        self.socket = socket.fromfd(self.answer.raw.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            event, data, number = None, None, None
            for line in self.answer.iter_lines(chunk_size=1):
                line = line.decode()
                if line.startswith(":"):
                    self.comments.append(line[1:].strip())
                elif line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                elif line.startswith("id: "):
                    number = line[4:]
                elif not line and event:
                    self.ids.append(number)
                    self.events.append((event, data))
                    event, number = None, None
            self.ended = True
        except (requests.RequestException, AttributeError, OSError, ValueError):
            pass  # closed by us, or cut off

    def of(self, event):
        return [data for name, data in list(self.events) if name == event]

    def kept(self, event=None):
        """[(id, data)] of the events that have an id."""
        return [(number, data) for number, (name, data) in zip(list(self.ids), list(self.events))
                if number and event in (None, name)]

    def wait(self, found, what, bound_s=20):
        def look():
            assert found(self), f"events {self.events[-20:]}, comments {self.comments[-10:]}"
            return True

        return wait_until(look, bound_s, what)

    def wait_comment(self, text, bound_s=20):
        self.wait(lambda reader: any(text in comment for comment in reader.comments),
                  f"the comment {text}", bound_s)
        return self

    def close(self):
        """Hangs up; closing a response that another thread reads would wait for that thread."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was first
        self.thread.join(10)
