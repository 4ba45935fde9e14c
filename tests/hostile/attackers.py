"""Connections that wait, in a process of their own, for one process may not have enough file descriptors for both ends.

``python -m tests.hostile.attackers PORT`` takes a connection token on each line of its input, up to an empty line.
It connects with each of them, prints how many handshakes were answered with which status, and ends with its input.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
from collections import Counter

from tests.support import upgrade_request

AT_ONCE = 50


def main(port: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tokens = list(iter(lambda: sys.stdin.readline().strip(), ""))
    connections: list[socket.socket] = []
    statuses: Counter[str] = Counter()
    for start in range(0, len(tokens), AT_ONCE):
        batch = [socket.create_connection(("127.0.0.1", port)) for _ in tokens[start : start + AT_ONCE]]
        for connection, token in zip(batch, tokens[start:], strict=False):
            connection.sendall(upgrade_request(f"/ws?token={token}"))
        for connection in batch:
            statuses[connection.recv(4096).split()[1].decode()] += 1
        connections += batch
    print(json.dumps(statuses), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
