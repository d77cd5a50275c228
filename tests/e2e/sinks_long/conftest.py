"""These tests take minutes each: `tools/test sinks-long` runs them, and no other command."""

import os

collect_ignore_glob = [] if os.environ.get("MQFLEET_TEST_LONG") else ["test_*.py"]
