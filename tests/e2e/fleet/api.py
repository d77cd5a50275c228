"""A node's HTTP API, over requests."""

from urllib.parse import quote

import requests

from .wait import PATIENCE, wait_until


class Api:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.trust_env = False

    def use(self, token=None, ca=None):
        """With this token, and over HTTPS if there is a CA certificate."""
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"
        if ca:
            self.base = self.base.replace("http://", "https://")
            self.session.verify = str(ca)
        return self

    def call(self, method, path, **options):
        options.setdefault("timeout", 60 * PATIENCE)
        options.setdefault("allow_redirects", False)
        return self.session.request(method, self.base + path, **options)

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, document=None, **options):
        return self.call("POST", path, json=document, **options)

    def put(self, path, document, **options):
        return self.call("PUT", path, json=document, **options)

    def patch(self, path, document, **options):
        return self.call("PATCH", path, json=document, **options)

    def delete(self, path, **options):
        return self.call("DELETE", path, **options)

    # ---- clients ---------------------------------------------------------------------------

    @staticmethod
    def path(client, verb=""):
        return f"/api/v1/clients/{quote(client, safe='')}{'/' + verb if verb else ''}"

    def create(self, document, wait_ms=None):
        """Posts one object or a list; fails unless the request succeeds."""
        query = f"?wait_ms={wait_ms}" if wait_ms else ""
        answer = self.post("/api/v1/clients" + query, document)
        assert answer.status_code in (200, 201), f"{answer.status_code} {answer.text}"
        return answer.json()

    def client(self, client):
        answer = self.get(self.path(client))
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def status(self, client):
        return self.client(client)["status"]

    def state(self, client):
        return self.status(client)["state"]

    def clients(self, **filters):
        """All client documents, from all pages."""
        query, documents = {"limit": 500, **filters}, []
        while True:
            answer = self.get("/api/v1/clients", params=query)
            assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
            page = answer.json()
            documents += page["clients"]
            if page["next_cursor"] is None:
                return documents
            query["cursor"] = page["next_cursor"]

    def nodes(self):
        """{name: node document}"""
        answer = self.get("/api/v1/nodes")
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return {node["name"]: node for node in answer.json()["nodes"]}

    def wait_state(self, client, state, bound_s=20):
        def reached():
            status = self.status(client)
            assert status["state"] == state, f"{client} is {status}"
            return status

        return wait_until(reached, bound_s, f"{client} is {state}")

    def publish(self, client, topic, payload, qos=1, **more):
        return self.post(self.path(client, "publish"),
                         {"topic": topic, "payload": payload, "qos": qos, **more})
