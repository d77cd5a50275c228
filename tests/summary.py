#!/usr/bin/env python3
"""Summarizes the results of the stages of tools/test in a folder; exit code 1: something failed.

usage: summary.py FOLDER

broken              a line for each step that failed and has no results of its own
times               "seconds<TAB>stage" lines
NAME.json           end-to-end tests, written by tests/e2e/results.py
NAME.xml            unit tests and fuzzers (with NAME.log), as JUnit
NAME.again.xml      the second run of those that failed
NAME.model          the output of tests/model/run

Who reads only the end finds there what failed and was flaky, and why."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as tree

FLAKY_MAX = 2  # more fail the run
FIRST_RUN_LINES = 60  # of what a flaky test said in its first run
EXCERPTS_LINES = 36  # of all failed tests together
EXCERPT_LINES = 12
NAMED_MAX = 12
LINE_MAX = 200
# Patterns of causes, in the words of pytest, check, the sanitizers, and asserts.
CAUSE = re.compile(r"^E  +\S|:[EF]:\w|Sanitizer|runtime error|Assertion .* failed|Timeout")


class Test:
    def __init__(self, name, outcome, first="", last=""):
        self.name, self.outcome = name, outcome  # "passed" "failed" "flaky" "skipped"
        self.first, self.last = first, last  # what its runs said

    def cause(self):
        """The most informative line of the failed run."""
        lines = lines_of(self.first if self.outcome == "flaky" else self.last)
        told = [line for line in lines if CAUSE.search(line)]
        return (told or lines[-1:] or ["no output"])[0].strip()

    def excerpt(self, count):
        """From the line before the first cause on."""
        lines = lines_of(self.last)
        at = next((i for i, line in enumerate(lines) if CAUSE.search(line)), len(lines) - count)
        return lines[max(at - 1, 0):][:count] or ["no output"]


def lines_of(text):
    return [line[:LINE_MAX] for line in text.splitlines() if line.strip()]


# ---- reading ------------------------------------------------------------------------------------

def read_pytest(path):
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        # One without an outcome never came to its end.
        yield Test("tests/e2e/" + row["name"], row["outcome"] or "failed", row["first"], row["last"])


def read_log(path):
    """A fuzzer's output."""
    log = path[:-len(".xml")] + ".log"
    return open(log, encoding="utf-8", errors="replace").read() if os.path.exists(log) else ""


def read_junit(path):
    """{name: Test}; of ctest and of the fuzzers"""
    tests = {}
    for case in tree.parse(path).iter("testcase"):
        # ctest marks a program that could not be started as "notrun".
        failed = (case.find("failure") is not None or case.find("error") is not None
                  or case.get("status") in ("fail", "notrun"))
        outcome = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
        said = case.findtext("system-out") or read_log(path)
        if case.find("failure") is not None:
            said += "\n" + (case.find("failure").get("message") or "")
        if not said.strip() and failed:
            said = f"no output; ended after {float(case.get('time') or 0):.1f} s"
        tests[case.get("name")] = Test(case.get("name"), outcome, last=said)
    return tests


def read_ctest(path):
    stage = os.path.basename(path)[:-len(".xml")]
    tests = read_junit(path)
    again = path[:-len(".xml")] + ".again.xml"
    for name, second in (read_junit(again) if os.path.exists(again) else {}).items():
        outcome = "flaky" if second.outcome == "passed" else "failed"
        tests[name] = Test(name, outcome, tests[name].last if name in tests else "", second.last)
    for test in tests.values():
        test.name += f" ({stage})"
    return tests.values()


def read_model(path):
    text = open(path, encoding="utf-8").read()
    for verdict, title in re.findall(r"^(passed|FAILED)  (.*)$", text, re.MULTILINE):
        yield Test("model: " + title, verdict.lower(), last=text if verdict == "FAILED" else "")
    if not re.search(r"^\d+ passed, \d+ failed$", text, re.MULTILINE):
        yield Test("model", "failed", last=text)


def read_lines(folder, name):
    path = os.path.join(folder, name)
    return open(path, encoding="utf-8").read().splitlines() if os.path.exists(path) else []


def read_all(folder):
    tests = [Test(line, "failed", last=line) for line in read_lines(folder, "broken")]
    for path in sorted(glob.glob(folder + "/*")):
        if path.endswith(".json"):
            tests += read_pytest(path)
        elif path.endswith(".xml") and not path.endswith(".again.xml"):
            tests += read_ctest(path)
        elif path.endswith(".model"):
            tests += read_model(path)
    return tests


# ---- telling ------------------------------------------------------------------------------------

def tell_first_run(test):
    """Both runs of a flaky test."""
    print(f"\n---- flaky: {test.name}\n---- its first run failed:")
    lines = lines_of(test.first)
    if len(lines) > FIRST_RUN_LINES:
        at = next((i for i, line in enumerate(lines) if CAUSE.search(line)), 0)
        at = min(max(at - FIRST_RUN_LINES // 4, 0), len(lines) - FIRST_RUN_LINES)
        lines = lines[at:at + FIRST_RUN_LINES]
    print("\n".join(lines) or "(it said nothing)")
    print("---- its second run passed" + (":" if test.last.strip() else ""))
    print("\n".join(lines_of(test.last)[-10:]))


def tell_times(lines):
    if lines:
        rows = sorted((line.split("\t") for line in lines), key=lambda row: -int(row[0]))
        print("\nSeconds: " + " · ".join(f"{name} {seconds}" for seconds, name in rows))


def tell_flaky(flaky):
    for test in flaky[:NAMED_MAX]:
        print(f"FLAKY  {test.name}\n       {test.cause()}")
    if len(flaky) > NAMED_MAX:
        print(f"FLAKY  and {len(flaky) - NAMED_MAX} more")


def tell_failed(failed):
    count = max(1, min(EXCERPT_LINES, EXCERPTS_LINES // max(1, len(failed))))
    for test in failed[:NAMED_MAX]:
        print(f"FAILED {test.name}")
        for line in test.excerpt(count) if count > 1 else [test.cause()]:
            print("       " + line)
    if len(failed) > NAMED_MAX:
        print(f"FAILED and {len(failed) - NAMED_MAX} more")


def main():
    tests = read_all(sys.argv[1])
    by = {outcome: [test for test in tests if test.outcome == outcome]
          for outcome in ("passed", "failed", "flaky")}
    for test in by["flaky"]:
        tell_first_run(test)
    tell_times(read_lines(sys.argv[1], "times"))
    print()
    tell_flaky(by["flaky"])
    tell_failed(by["failed"])
    passed, failed, flaky = len(by["passed"]), len(by["failed"]), len(by["flaky"])
    if flaky > FLAKY_MAX:
        print(f"FAILED because {flaky} tests are flaky: at most {FLAKY_MAX} may be")
        failed += flaky
    else:
        passed += flaky
    print(f"{flaky} flaky\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
