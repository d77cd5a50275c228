"""The engines of the tests, and their limits according to the table in docs/engines.md."""

import fnmatch
import os
import pathlib
import re

# $MQFLEET_ENGINE selects one engine for all tests.
ONE_ENGINE = os.environ.get("MQFLEET_ENGINE")
ENGINES = [ONE_ENGINE] if ONE_ENGINE else ["reactor", "paho"]

_TABLE = pathlib.Path(__file__).resolve().parents[3] / "docs/engines.md"
_ROW = re.compile(r"^\| (\w+) \| `(\S+?)::(.+?)` \| (.+) \|$", re.MULTILINE)


def limits():
    """[(engine, file, pattern of test names, reason)]; in a pattern only * is a wildcard."""
    return _ROW.findall(_TABLE.read_text())


def limit_of(engine, file, name):
    """Why `engine` cannot pass the test; None: it can."""
    for limited, of_file, pattern, reason in limits():
        if (limited, of_file) == (engine, file):
            if fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")):
                return reason
    return None
