"""How tools/test counts and reports the results of its stages."""

import json
import re
import subprocess
import sys

from fleet.node import ROOT

FAILURE = "tests/e2e/test_x.py:7: in test_x\nE   AssertionError: 3 is not 4\n" + "log\n" * 200


def row(name, outcome, first="", last=""):
    return {"name": f"test_x.py::{name}", "outcome": outcome, "first": first, "last": last}


def case(name, passed, said=""):
    status = "run" if passed else "fail"
    failure = "" if passed else "<failure message=''/>"
    return (f"<testcase name='{name}' status='{status}'>{failure}"
            f"<system-out>{said}</system-out></testcase>")


def told(folder, rows=(), **files):
    """(exit code, lines) of the summary of these results."""
    (folder / "e2e-release.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, cases in files.items():
        path = folder / (name.replace("_again", ".again") + ".xml")
        path.write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    done = subprocess.run([sys.executable, ROOT / "tests/summary.py", folder], text=True,
                          capture_output=True, timeout=60, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_flaky_test_is_shown_with_both_runs_and_passes(tmp_path):
    code, lines = told(tmp_path, [row("test_a", "passed"), row("test_b", "flaky", FAILURE)],
                       unit=[case("base/one", False, "x.c:12:F:t:one:0: bad"), case("base/two", True)],
                       unit_again=[case("base/one", True, "100%")])
    assert code == 0 and lines[-2:] == ["2 flaky", "4 passed, 0 failed"]
    text = "\n".join(lines)
    for said in ("E   AssertionError: 3 is not 4", "x.c:12:F:t:one:0: bad", "100%"):
        assert said in text
    assert "FLAKY  tests/e2e/test_x.py::test_b" in lines and "FLAKY  base/one (unit)" in lines


def test_more_than_two_flaky_tests_fail_the_run(tmp_path):
    code, lines = told(tmp_path, [row(f"test_{n}", "flaky", FAILURE) for n in range(3)])
    assert code == 1 and lines[-2:] == ["3 flaky", "0 passed, 3 failed"]


def test_the_end_names_each_failed_test_and_its_cause(tmp_path):
    rows = [row("test_long", "failed", FAILURE, FAILURE), row("test_a", "passed")]
    rows += [row(f"test_{n}", "failed", FAILURE, f"E   AssertionError: cause {n}\n" + FAILURE)
             for n in range(7)]
    code, lines = told(tmp_path, rows, unit=[case("base/one", False, "x.c:12:F:t:one:0: bad")],
                       unit_again=[case("base/one", False, "x.c:12:F:t:one:0: still bad")])
    end = "\n".join(lines[-60:])
    assert code == 1 and lines[-1] == "1 passed, 9 failed"
    assert "3 is not 4" in end and "still bad" in end
    assert all(f"::test_{n}\n" in end and f"cause {n}" in end for n in range(7))


def test_a_stage_that_left_no_results_fails_the_run(tmp_path):
    (tmp_path / "broken").write_text("cmake --preset release\n")
    code, lines = told(tmp_path, [row("test_a", "passed"), row("test_cut_off", "")])
    assert code == 1 and lines[-1] == "1 passed, 2 failed"
    assert "FAILED cmake --preset release" in lines


def test_a_run_of_nothing_fails(tmp_path):
    assert told(tmp_path) == (1, ["", "0 flaky", "0 passed, 0 failed"])


def test_every_mutation_can_be_applied():
    """A changed line is changed in tests/mutations/table.py as well."""
    done = subprocess.run([ROOT / "tests/mutations/run", "--check"], text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_sources_follow_the_style():
    done = subprocess.run([ROOT / "tools/style"], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_names_of_tests_are_one_word(request):
    """A reader that reads a log up to the next blank or colon has the whole name."""
    names = [item.name for item in request.session.items]
    assert names and not [name for name in names if re.search(r"[\s:]", name)]
