"""Tests of the README and docs/: examples run unchanged, generated tables are up to date, and links are
valid."""

import contextlib
import functools
import json
import os
import re
import shlex
import signal
import subprocess

import pytest

from fleet.node import BINARY, ROOT, environment
from fleet.ports import free_port
from fleet.wait import wait_until

PAGES = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")) + [ROOT / "tests/model/README.md"]
STARTED = "docs/getting-started.md"  # has servers of its own
# An event stream never ends by itself.
PRELUDE = """
curl() {
    case " $* " in
        *" -sN "*) command curl --max-time 2 "$@" || [ $? = 28 ] ;;
        *) command curl "$@" ;;
    esac
}
"""


def examples(page):
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def answers(text):
    """The JSON documents that follow each other in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


@functools.cache
def tool(name):
    """The definitions of a program in tools/."""
    names = {"__name__": "tool", "__file__": str(ROOT / "tools" / name)}
    exec((ROOT / "tools" / name).read_text(), names)
    return names


class Reader:
    """Runs the examples of a page with the ports of a fleet in place of the usual ones."""

    def __init__(self, fleet, node):
        self.fleet = fleet
        self.folder = fleet.folder / "examples"  # where they may leave files
        self.folder.mkdir()
        self.ports = {"8080": node.port, "1883": fleet.broker.port, "6379": fleet.redis.port}
        self.environment = {**os.environ, "MQFLEET_URL": node.api.base,
                            "PATH": f"{BINARY.parent}:{os.environ['PATH']}"}

    def placed(self, text):
        return re.sub(r"\b(8080|1883|6379)\b", lambda match: str(self.ports[match[0]]), text)

    def run(self, block):
        script = self.placed(block)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", PRELUDE + script], text=True,
                              capture_output=True, timeout=180, env=self.environment, cwd=self.folder)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_until(self, block, text):
        """A reader is slower: what the example shows may arrive a moment later."""
        return wait_until(lambda: (shown := self.run(block)) and text in shown and shown, 60, text)

    def page(self, name, awaited=None):
        """The output of each example. `pump-1` is online before and after. awaited: a text by number of
        example."""
        outputs = [self.run_until(block, awaited[at]) if at in (awaited or {}) else self.run(block)
                   for at, block in enumerate(examples(ROOT / name))]
        self.fleet.wait_online(["pump-1"])
        return outputs


@pytest.fixture
def reader(fleet):
    node = fleet.start_node("m1")
    return Reader(fleet, node)


def test_every_example_of_the_readme_and_of_docs_runs(reader):
    posted, published, stream, status = reader.page("README.md", {2: "pumps/1/state"})
    created = answers(posted)
    assert created[0]["id"] == "meter-7"
    assert created[1]["status"]["state"] == "online"
    assert [one.get("reason_code") for one in answers(published)] == [0] and "pumps/1/state" in stream
    assert "pump-1" in status and "subscribed" in status and "m1" in status

    api = reader.page("docs/api.md")
    documents = [one for text in api if text.startswith(("{", "[")) for one in answers(text)]
    wrong = [one for one in documents if one.get("status") in range(400, 600)]
    assert [one["status"] for one in wrong] == [422], wrong  # the one that shows an error
    assert wrong[0]["errors"][0]["pointer"] == "/keepalive"
    assert documents[0] == {"created": 2, "unchanged": 0, "failed": []}
    assert any(": listening" in text for text in api)

    assert "1 created" in "".join(reader.page("docs/as-code.md"))
    assert "clients" in "".join(reader.page("docs/operations.md"))
    assert "subscribed" in "".join(reader.page("docs/cli.md"))
    assert 'mqfleet_clients{state="online"}' in "".join(reader.page("docs/metrics.md"))
    assert "m1" in "".join(reader.page("docs/redis.md"))
    assert '"dead_letters":[]' in "".join(reader.page("docs/sinks.md"))
    routes = "".join(reader.page("docs/routes.md"))
    assert '"version"' in routes and '"matched"' in routes
    reader.fleet.wait_online(["by-hand"])

    ran = {STARTED, "README.md", "docs/api.md", "docs/as-code.md", "docs/cli.md", "docs/metrics.md", "docs/operations.md",
           "docs/redis.md", "docs/routes.md", "docs/sinks.md"}
    assert {str(page.relative_to(ROOT)) for page in PAGES if examples(page)} == ran


def test_a_newcomer_gets_started(tmp_path):
    """The page starts all servers itself, in one shell."""
    ports = {usual: str(free_port()) for usual in ("8080", "8081", "1883", "1884", "6379")}
    script = re.sub(rf"\b({'|'.join(ports)})\b", lambda match: ports[match[0]], "\n".join(examples(ROOT / STARTED)))
    told = tmp_path / "told"
    with open(told, "w") as output:
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=output, cwd=tmp_path, start_new_session=True,
                                 env=environment(PATH=f"{BINARY.parent}:{os.environ['PATH']}",
                                                 MQFLEET_URL=f"http://127.0.0.1:{ports['8080']}"))
        try:
            code = shell.wait(180)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    text = told.read_text()
    assert code == 0, text
    for part in ("readyz check passed", "subscribe", '"pump-2"', '{"bar": 2.4}', '"level', "Connection refused",
                 "exits with 1", "a token is missing"):
        assert part in text, f"{part}:\n{text}"
    own = text[text.rindex("a token is missing"):]
    assert "pump-1" in own and "pump-3" in own and "pump-2" not in own, own


def between(page, begin, end):
    text = (ROOT / page).read_text()
    return text[text.index(begin) + len(begin):text.index(end)].strip()


def test_the_settings_in_docs_are_those_of_the_program():
    made = tool("settings-reference")
    assert between("docs/settings.md", made["BEGIN"], made["END"]) == made["reference"]().strip(), \
        "docs/settings.md is outdated: run tools/settings-reference"


def test_the_endpoints_in_docs_are_those_of_the_api():
    made = tool("api-reference")
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    assert between("docs/api.md", made["BEGIN"], made["END"]) == made["table"](document), \
        "docs/api.md is outdated: run tools/api-reference"


def anchors(page):
    """Those of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_a_heading():
    broken = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, broken


def test_every_picture_is_on_a_page_and_small():
    shown = {(page.parent / path).resolve() for page in PAGES
             for path in re.findall(r"!\[[^\]]+\]\(([^)\s]+\.png)\)", page.read_text())}
    pictures = {path: path.stat().st_size for path in ROOT.glob("docs/**/*.png")}
    assert len(shown) > 5 and shown == set(pictures), shown ^ set(pictures)
    assert max(pictures.values()) <= 80_000 and sum(pictures.values()) < 1_000_000, pictures


def test_the_map_of_docs_has_every_page():
    page = (ROOT / "docs/README.md").read_text()
    missing = [one.name for one in ROOT.glob("docs/*.md")
               if one.name != "README.md" and f"({one.name}" not in page]
    assert not missing, missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_path_that_is_named_exists():
    folders = ("src", "include", "tests", "tools", "conf", "docs", "cmake")
    files = [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")]
    missing = []
    for page in PAGES:
        text = re.sub(r"#include <.*>", "", page.read_text())  # of the system
        whole = re.findall(rf"`((?:{'|'.join(folders)})/[\w./*-]*)", text)
        missing += [(page.name, path) for path in whole
                    if "NAME" not in path and not list(ROOT.glob(path.rstrip("./")))]
        # In pictures and tables a path may begin below src.
        missing += [(page.name, path) for path in re.findall(r"[\w/.-]+/[\w-]+\.(?:c|h|lua|py)\b", text)
                    if "NAME" not in path
                    and not any(f"/{file}".endswith(f"/{path.lstrip('./')}") for file in files)]
    assert not missing, missing


def test_the_threads_in_docs_are_those_of_the_program():
    source = (ROOT / "src/wiring/threads.c").read_text()
    started = set(re.findall(r'^    \{"([a-z-]+)", THREAD_', source, re.MULTILINE))
    started |= set(re.findall(r'setname_np\(.*, "(.*)"\)', (ROOT / "src/sink/sinks.c").read_text()))
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"^\| `([a-z-]+)` \| ", page, re.MULTILINE))
    assert len(started) > 5 and started == named


def test_the_scripts_in_docs_are_those_of_the_store():
    page = (ROOT / "docs/protocol.md").read_text()
    named = set(re.findall(r"^\| `([a-z_]+)` \|", page[page.index("## Transitions"):], re.MULTILINE))
    scripts = {path.stem for path in ROOT.glob("src/store/lua/**/*.lua")}
    assert len(named) > 15 and named <= scripts, named - scripts


def test_the_runbook_has_every_alert():
    alerts = re.findall(r"alert: (\w+)", (ROOT / "conf/prometheus-alerts.yml").read_text())
    told = re.findall(r"^\| `(Mqfleet\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert len(alerts) > 30 and sorted(told) == sorted(alerts)


def test_the_commands_of_the_runbook_are_understood(tmp_path):
    for name in ("client.json", "change.json", "profile.json"):
        (tmp_path / name).write_text("{}")
    commands = set(re.findall(r"`mqfleet ([^`]+)`", (ROOT / "docs/operations.md").read_text()))
    wrong = {}
    for command in commands:
        words = shlex.split(command.replace("...", "state=backoff"))
        done = subprocess.run([BINARY.parent / "mqfleet", *words, "--url", "http://127.0.0.1:1"], text=True, cwd=tmp_path,
                              capture_output=True, timeout=60, stdin=subprocess.DEVNULL, env=environment())
        if "Failed to connect" not in done.stderr:
            wrong[command] = done.stderr
    assert len(commands) > 20 and not wrong, wrong
