"""The table of engine limits in docs/engines.md names only existing tests."""

import pathlib
import re

from fleet.engines import limits

TESTS = pathlib.Path(__file__).resolve().parents[1]


def test_every_limit_names_a_test():
    rows = limits()
    assert rows
    for engine, file, pattern, reason in rows:
        name = pattern.split("[")[0]
        assert engine in ("paho", "reactor") and reason
        [path] = TESTS.rglob(file)
        definition = re.escape(f"\ndef {name}").replace(r"\*", r"\w*") + r"\("
        assert re.search(definition, path.read_text()), f"{file}::{name}"
