"""tools/chaos for a short while."""

import subprocess

from fleet.node import BINARY, ROOT
from fleet.wait import PATIENCE


def chaos(*words):
    return subprocess.run([ROOT / "tools/chaos", *map(str, words)], capture_output=True, text=True,
                          timeout=200 * PATIENCE, check=False)


def test_a_short_chaos_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MQFLEETD", str(BINARY))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = chaos("--seconds", 20, "--seed", 4, "--nodes", 3, "--clients", 300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "faults survived" in result.stdout


def test_chaos_refuses_what_it_cannot_do():
    assert chaos("--nodes", 9).returncode == 2
