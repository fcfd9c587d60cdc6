"""Many callers in a process of their own: `python callers.py PORT COUNT [FILE]`.

Opens COUNT connections, sends the bytes of FILE on each (if given) and reads nothing. Says "open" when all
stand and, at the end of its input, how many the gateway has closed since.
"""

from __future__ import annotations

import selectors
import socket
import sys
from pathlib import Path


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    sent = Path(sys.argv[3]).read_bytes() if len(sys.argv) > 3 else b""
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        one.connect(("127.0.0.1", port))
        if sent:
            one.sendall(sent)
        sockets.append(one)
    print("open", flush=True)
    sys.stdin.read()
    print(sum(map(_is_closed, sockets)), flush=True)


def _is_closed(one: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        try:
            return bool(selector.select(0)) and one.recv(1, socket.MSG_PEEK) == b""
        except ConnectionError:
            return True


if __name__ == "__main__":
    main()
