"""Shows where a process spends its CPU time: records it with perf, and sums the samples by thread and by
activity (the system call, or the function of its own code)."""

import collections
import subprocess

FREQUENCY_HZ = 1999
LINES = 40

# The first row that one of a sample's frames contains, from the kernel outwards.
KINDS = [
    ("poll", ["__x64_sys_poll", "__x64_sys_ppoll"]),
    ("epoll_wait", ["__x64_sys_epoll_wait", "__x64_sys_epoll_pwait"]),
    ("recv, read of a socket", ["__x64_sys_recvfrom", "sock_recvmsg", "sock_read_iter"]),
    ("send, write to a socket", ["__x64_sys_sendto", "sock_sendmsg", "sock_write_iter"]),
    ("futex wake", ["futex_wake"]),
    ("futex wait", ["futex_wait"]),
    ("eventfd or timerfd", ["eventfd_read", "eventfd_write", "timerfd_read"]),
    ("other system calls", ["entry_SYSCALL_64_after_hwframe"]),
    ("interrupts", ["asm_sysvec_", "asm_common_interrupt"]),
]
# Of a sample outside the kernel: the function it was in.
OWN = [
    ("malloc, free", ["malloc", "free", "calloc"]),
    ("mutex, condition", ["mutex", "lll_", "cond_"]),
    ("clock", ["clock_gettime"]),
    ("entry of system calls", ["asynccancel", "syscall"]),
]


def record(path, seconds):
    """A running perf; its file is complete after wait(). It records the whole machine, because recording a
    single process would slow down each of its thread switches."""
    return subprocess.Popen(
        ["perf", "record", "-q", "-F", str(FREQUENCY_HZ), "-g", "-a", "-o", path,
         "--", "sleep", str(seconds)], stdin=subprocess.DEVNULL)


def kind_of(frames):
    for kind, marks in KINDS:
        if any(mark in frame for frame in frames for mark in marks):
            return kind
    top = frames[0] if frames else "?"
    for kind, marks in OWN:
        if any(mark in top for mark in marks):
            return kind
    return top


def shares(path, pid):
    """[(share, thread, kind)] of a process, the largest first."""
    text = subprocess.run(["perf", "script", "-i", path, "--pid", str(pid),
                           "-F", "comm,period,ip,sym"],
                          capture_output=True, text=True).stdout
    weights = collections.Counter()
    for sample in text.split("\n\n"):
        lines = sample.strip().splitlines()
        head = lines[0].split() if lines else []
        if len(head) < 2 or not head[-1].isdigit():
            continue
        frames = [line.split(None, 1)[-1] for line in lines[1:]]
        weights[" ".join(head[:-1]), kind_of(frames)] += int(head[-1])
    total = sum(weights.values()) or 1
    return [(weight / total, *what) for what, weight in weights.most_common()]


def write(path, data, pid, cpu_us):
    """Microseconds per message by thread and kind, given those of the whole process."""
    rows = shares(data, pid)
    with open(path, "w") as out:
        out.write(f"{cpu_us:.2f} us per message, perf included\n\n  share      us  thread, what\n")
        for share, thread, kind in rows[:LINES]:
            out.write(f"{100 * share:6.1f}% {share * cpu_us:7.2f}  {thread:15} {kind}\n")
