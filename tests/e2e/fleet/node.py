"""One mqfleetd process."""

import functools
import os
import pathlib
import re
import subprocess
import time

import requests

from .api import Api
from .ports import free_port
from .process import Process

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("MQFLEETD", ROOT / "build/release/mqfleetd")).absolute()
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:"
                       r"|event=assertion_failed|Assertion .* failed")


@functools.cache
def sanitized():
    """Whether the program is built with AddressSanitizer, whose quarantine makes memory useless to
    look at."""
    binary = BINARY.read_bytes()
    return b"__asan_init" in binary or b"__tsan_init" in binary


def environment(**more):
    """That of the test run without settings of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MQFLEET_")}
    return {
        **kept,
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1:exitcode=99:"
                        f"suppressions={ROOT / 'tests/tsan.supp'}",
        **more,
    }


class Node(Process):
    """settings: {"sink.type": "file", ...}, given as --set; config: path of a YAML file; binary: of
    another version."""

    def __init__(self, name, folder, settings, config=None, binary=BINARY):
        super().__init__(name, folder)
        self.binary = binary
        self.port = free_port()
        self.api = Api(self.port)
        self.config = config
        self.settings = {
            "node_info.name": name,
            "node_info.port": self.port,
            "state_dir": self.folder / f"{name}-state",
            **settings,
        }
        self.expected_exit = False

    def argv(self):
        words = [self.binary]
        if self.config:
            words += ["--config", self.config]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        return words

    def start(self, wait=True):
        assert self.binary.exists(), f"{self.binary} is not built"
        self.expected_exit = False
        self.spawn(self.argv(), environment())
        if wait:
            self.wait_ready(self.ready, 30)
        return self

    def start_and_end(self):
        """Starts a node that must end by itself soon; returns its exit code."""
        self.start(wait=False)
        self.expected_exit = True
        return self.wait_exit()

    def run_to_end(self, *words):
        """Runs it with one more option that makes it end at once; its output."""
        result = subprocess.run([str(word) for word in [*self.argv(), *words]], env=environment(), cwd=self.folder,
                                capture_output=True, text=True, timeout=60)
        return [result.stdout, result.stderr]

    def ready(self):
        return self._answers("/readyz")

    def alive(self):
        return self._answers("/livez")

    def _answers(self, path):
        try:
            return self.api.get(path, timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def log(self):
        """A thread of the node writes the log, so lines may arrive slightly later."""
        before, text = None, super().log()
        while self.running and text != before:
            time.sleep(0.02)
            before, text = text, super().log()
        return text

    def kill(self):
        self.expected_exit = True
        super().kill()

    def terminate(self, bound_s=40):
        self.expected_exit = True
        return super().terminate(bound_s)

    def faults(self):
        """Events that must not have happened in any test."""
        log = self.log()
        if match := SANITIZER.search(log):
            yield f"{self.name}: {log[match.start():match.start() + 4000]}"
        if self.popen and not self.running and not self.expected_exit:
            yield f"{self.name} ended by itself with {self.exit_code}"
