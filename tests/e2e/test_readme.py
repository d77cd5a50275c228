"""The README's promises: its examples run as they stand, its settings are the program's."""

import json
import re
import subprocess

from fleet.node import BINARY, ROOT

README = (ROOT / "README.md").read_text()


def examples():
    return re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(script):
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout


def answers(text):
    """The JSON documents that follow each other in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def test_every_example_of_the_readme_runs(fleet):
    node = fleet.start_node("m1")
    ports = {"8080": node.port, "1883": fleet.broker.port, "6379": fleet.redis.port}
    blocks = [re.sub(r"\b(8080|1883|6379)\b", lambda match: str(ports[match[0]]), block)
              for block in examples()]
    curls = [block for block in blocks if "curl" in block and "/metrics" not in block]
    tool = [block for block in blocks if re.search(r"^mqfleet ", block, re.MULTILINE)]
    metrics = [block for block in blocks if "/metrics" in block]
    redis = [block for block in blocks if "redis-cli" in block]
    assert len(curls) >= 6 and len(redis) >= 2

    documents = [answers(run(block)) for block in curls]
    wrong = [one for block in documents for one in block if one.get("status") in range(400, 600)]
    assert [one["status"] for one in wrong] == [422], wrong  # the one that shows an error
    assert {"pointer": "/keepalive"} == {key: value for key, value in wrong[0]["errors"][0].items()
                                         if key == "pointer"}
    created = documents[0]
    assert created[0]["id"] == "meter-7"
    assert created[1]["status"]["state"] == "online"
    assert documents[1][0] == {"created": 2, "unchanged": 0, "failed": []}

    # `pump-1` has just been asked to move: with one node it comes back to it.
    fleet.wait_online(["pump-1"])
    shown = "\n".join(run(block) for block in redis)
    assert "m1" in shown and "pumps/1/state" in shown
    fleet.wait_online(["by-hand"])
    shown = "\n".join(run(f"PATH={BINARY.parent}:$PATH; export MQFLEET_URL={node.api.base}\n{block}")
                      for block in tool)
    assert "pump-1" in shown and "subscribed" in shown and "m1" in shown
    assert 'mqfleet_clients{state="online"}' in run("\n".join(metrics))


def test_the_settings_of_the_readme_are_those_of_the_program():
    reference = subprocess.run([BINARY, "--print-reference"], capture_output=True, text=True,
                               check=True).stdout
    between = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- end of settings -->", README, re.DOTALL)
    assert between[1].strip() == reference.strip(), \
        "the settings in README.md are old: paste what mqfleetd --print-reference prints"
