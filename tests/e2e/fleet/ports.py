"""Free TCP ports on loopback."""

import random
import socket


def free_port():
    """Below the range the kernel picks outgoing ports from, so that a server that is restarted
    finds its port free even while thousands of clients connect."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")
