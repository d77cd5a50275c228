"""An operator's view of a failing client: its status, its last error, metrics and the log."""

import re

from .wait import wait_until

STATES = re.compile(r"event=client_state client=(\S+) from=(\w+) to=(\w+) reason=(\w+)")


def metrics(node):
    """{`name{labels}`: value}"""
    answer = node.api.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in answer.text.splitlines() if not line.startswith("#")}


def total(node, name):
    """The sum over all labels."""
    return sum(value for key, value in metrics(node).items() if key.split("{")[0] == name)


def wait_total(node, name, value, bound_s=20):
    wait_until(lambda: total(node, name) == value, bound_s, f"{name} is {value}", 0.2)


def states(node, client):
    """[(from, to, reason)] of its changes of state in the log."""
    return [match[1:] for match in STATES.findall(node.log()) if match[0] == client]


def wait_error(api, client, code, *words, bound_s=20):
    """The last error, once it has that code and its message contains all these words."""
    def told():
        error = api.status(client)["last_error"]
        assert error and error["code"] == code, f"{error} instead of {code}"
        missing = [word for word in words if word not in error["message"]]
        assert not missing, f"no {missing} in {error}"
        return error
    return wait_until(told, bound_s, f"{client} tells {code}", 0.1)


def publications(api, client):
    """Its pending publications."""
    answer = api.get(api.path(client, "publications"))
    assert answer.status_code == 200, answer.text
    return answer.json()["publications"]
