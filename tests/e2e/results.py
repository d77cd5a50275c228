"""Writes what each run of each test gave, for tests/summary.py: one JSON object a line, as soon as the
test is over. One that fails is run again (--reruns 1); pytest's own report does not keep what the first
run said."""

import json


def text_of(report):
    """The failure as pytest shows it, with what was captured and the logs."""
    parts = [report.longreprtext]
    parts += [f"---- {title} ----\n{content}" for title, content in report.sections if content]
    return "\n".join(parts)


class Results:
    def __init__(self, path):
        self._file = open(path, "w", encoding="utf-8")
        self._tests = {}  # name: what will be written of it

    def _test(self, name):
        return self._tests.setdefault(name, {"name": name, "outcome": "", "first": "", "last": "",
                                             "seconds": 0})

    def _write(self, name):
        self._file.write(json.dumps(self._tests.pop(name)) + "\n")
        self._file.flush()

    def pytest_runtest_logreport(self, report):
        test = self._test(report.nodeid)
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
        if report.when == "teardown" and report.outcome != "rerun":
            self._write(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self._test(report.nodeid).update(outcome="failed", last=report.longreprtext)

    def pytest_sessionfinish(self):
        for name in list(self._tests):  # one that did not come to its end
            self._write(name)
        self._file.close()
