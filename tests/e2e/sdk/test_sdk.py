"""API clients that are generated from the OpenAPI document: one calls every operation, the others are the examples of
docs/generated-clients.md. tools/install-deps --test brings the generators."""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from fleet.node import ROOT
from test_docs import Reader
from test_openapi import DOCUMENT, OPERATIONS, response_of
from test_secrets import key_file, new_key

PAGE = (ROOT / "docs/generated-clients.md").read_text()
HERE = pathlib.Path(__file__).parent
NODE_MODULES = ROOT / "build/npm/node_modules"
PYPI = ROOT / "build/pypi"
# What does not answer 2xx: a redirection, and a profile that only Go programs have.
OTHERS = {"pprofSlash": {301}, "mutexProfile": {404}}

pytestmark = pytest.mark.xdist_group("sdk")
needs_npm = pytest.mark.skipif(
    not all((NODE_MODULES / name).exists() for name in ("openapi-typescript", "openapi-fetch", "typescript")),
    reason="tools/install-deps --test could not bring openapi-typescript from the npm registry")
needs_pypi = pytest.mark.skipif(not (PYPI / "openapi_python_client").exists(),
                                reason="tools/install-deps --test could not bring openapi-python-client from PyPI")


def block(language, *words):
    """The one block of the page in this language that has these words."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    [one] = [text for text in found if all(word in text for word in words)]
    return one


def run(folder, *words, **environment):
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, timeout=400,
                          env={**os.environ, **environment})
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with the programs of this folder and the example of the page, compiled with the generated types."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("every_operation.ts", "tsconfig.json"):
        shutil.copy(HERE / name, folder)
    (folder / "example.ts").write_text(block("ts"))
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(NODE_MODULES)
    run(folder, NODE_MODULES / ".bin/openapi-typescript", ROOT / "docs/openapi.json", "-o", "mqfleet.d.ts")
    run(folder, NODE_MODULES / ".bin/tsc", "-p", folder)
    return folder


@needs_npm
def test_a_generated_client_calls_every_operation(fleet, compiled):
    node, _ = fleet.start_nodes(2, secrets__key_file=key_file(fleet, new_key()))
    text = run(compiled, "node", "every_operation.js", node.api.base, fleet.broker.url)
    statuses, odd = collections.defaultdict(set), []
    for answer in map(json.loads, text.splitlines()):
        operation = DOCUMENT["paths"][answer["path"]][answer["method"]]
        content = response_of(operation, answer["status"]).get("content", {})
        if answer["media"] not in (content or [None]):
            odd.append((answer, list(content)))
        statuses[operation["operationId"]].add(answer["status"])
    assert not odd, odd
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    missing = [name for name in names if not statuses[name] & (OTHERS.get(name) or set(range(200, 300)))]
    assert not missing, f"not called, or without success: {missing}"


@needs_npm
def test_the_example_in_typescript_runs(fleet, compiled):
    reader = Reader(fleet, fleet.start_node())
    (reader.folder / "node_modules").symlink_to(NODE_MODULES)
    reader.run(block("bash", "openapi-typescript"))
    assert (reader.folder / "mqfleet.d.ts").read_text() == (compiled / "mqfleet.d.ts").read_text()
    program = compiled / "example.js"
    program.write_text(reader.placed(program.read_text()))
    assert run(compiled, "node", program) == "acknowledged\npumps/ts/state on\n"


@needs_pypi
def test_the_example_in_python_runs(fleet):
    reader = Reader(fleet, fleet.start_node())
    reader.environment["PATH"] += f":{PYPI / 'bin'}"
    reader.environment["PYTHONPATH"] = f"{PYPI}:{reader.folder / 'mqfleet-client'}"
    assert "WARNING" not in reader.run(block("bash", "openapi-python-client"))
    functions = list((reader.folder / "mqfleet-client/mqfleet_client/api").glob("*/[!_]*.py"))
    assert len(functions) == len(OPERATIONS)
    (reader.folder / "example.py").write_text(reader.placed(block("python")))
    assert reader.run("/usr/bin/python3 example.py") == "acknowledged\npumps/py/state on\n"
