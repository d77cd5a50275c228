"""Writes what each run of each test gave, for tests/summary.py: one JSON object a line. A test that
fails is run again (--reruns 1); pytest's own report does not keep what the first run said."""

import json


def text_of(report):
    """The failure as pytest shows it, with what was captured and the logs."""
    parts = [report.longreprtext]
    parts += [f"---- {title} ----\n{content}" for title, content in report.sections if content]
    return "\n".join(parts)


class Results:
    def __init__(self, path):
        self._path = path
        self._tests = {}  # name: what is written of it

    def _test(self, report):
        return self._tests.setdefault(report.nodeid, {"name": report.nodeid, "outcome": "",
                                                      "first": "", "last": "", "seconds": 0})

    def pytest_runtest_logreport(self, report):
        test = self._test(report)
        test["seconds"] += report.duration
        if report.outcome == "rerun":
            test["first"] = text_of(report)
        elif report.failed:
            test["outcome"] = "failed"
            test["last"] += text_of(report) + "\n"
        elif report.skipped:
            test["outcome"] = test["outcome"] or "skipped"
        elif report.when == "call":
            test["outcome"] = test["outcome"] or ("flaky" if test["first"] else "passed")

    def pytest_collectreport(self, report):
        if report.failed:
            self._test_failed_to_load(report)

    def _test_failed_to_load(self, report):
        self._tests[report.nodeid] = {"name": report.nodeid, "outcome": "failed", "first": "",
                                      "last": report.longreprtext, "seconds": 0}

    def pytest_sessionfinish(self):
        with open(self._path, "w", encoding="utf-8") as file:
            for test in self._tests.values():
                file.write(json.dumps(test) + "\n")
