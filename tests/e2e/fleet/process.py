"""One process started by a test: its log file, its signals, and its end, which is guaranteed."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess

from .wait import PATIENCE, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000


def _die_with_parent():
    for number in (signal.SIGINT, signal.SIGQUIT):  # a shell ignores them for what it has in the background
        signal.signal(number, signal.SIG_DFL)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    def __init__(self, name, folder):
        self.name = name
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_path = self.folder / f"{name}.log"
        self.stderr = None  # a file or descriptor in place of the log file
        self.popen = None

    def spawn(self, argv, env=None):
        assert not self.running, f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                [str(word) for word in argv],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if self.stderr is None else self.stderr,
                env=env,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen is not None and self.popen.poll() is None

    @property
    def exit_code(self):
        return self.popen.poll()

    def rss_bytes(self):
        """Its current memory use."""
        pages = pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def signal(self, number):
        if self.running:
            os.kill(self.pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen_thread(self, name):
        """One of its threads is stopped, with this process as its tracer."""
        [tid] = [int(task.name) for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir()
                 if (task / "comm").read_text().strip() == name]
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            assert LIBC.ptrace(request, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(tid, WALL)
        try:
            yield
        finally:
            assert LIBC.ptrace(PTRACE_DETACH, tid, None, None) == 0

    def kill(self):
        """As in a power failure."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()

    def terminate(self, bound_s=20):
        """Asks it to end and returns the exit code."""
        self.resume()
        self.signal(signal.SIGTERM)
        return self.wait_exit(bound_s)

    def wait_exit(self, bound_s=20):
        try:
            return self.popen.wait(bound_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {bound_s * PATIENCE:g} s")

    def wait_ready(self, ready, bound_s):
        def check():
            assert self.running, f"{self.name} ended with {self.exit_code}:\n{self.log()[-3000:]}"
            return ready()

        wait_until(check, bound_s, f"{self.name} is ready", poll_s=0.02)
