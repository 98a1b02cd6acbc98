"""Clients that connect, are welcomed and leave, again and again, until stdin is closed. Prints a line when so many have come
as there are threads, and one of JSON at the end.

Run as a program, so that it can be put into another network namespace: throng_knock.py HOST PORT THREADS.
`refused` counts connections that were refused or reset, `answered` answers other than a WebSocket by their status,
`silent` those that nobody answered in time.
"""

import base64
import collections
import json
import os
import socket
import sys
import threading
import time

ANSWER_SECONDS = 30
CLOSE = bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8])  # 1000, masked with zeros


class Knocker(threading.Thread):
    """One client at a time."""

    def __init__(self, host, port, over):
        super().__init__(daemon=True)
        self.address, self.over = (host, port), over
        self.counts, self.answered = collections.Counter(), collections.Counter()
        self.longest = 0.0

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            self.counts["attempts"] += 1
            try:
                self.knock()
            except (ConnectionError, BrokenPipeError) as error:
                self.counts["refused"] += 1
                self.counts[type(error).__name__] += 1
                time.sleep(0.01)
            except TimeoutError:
                self.counts["silent"] += 1
            self.longest = max(self.longest, time.monotonic() - began)

    def knock(self):
        with socket.create_connection(self.address, ANSWER_SECONDS) as stream:
            stream.settimeout(ANSWER_SECONDS)
            key = base64.b64encode(os.urandom(16)).decode()
            stream.sendall((f"GET /ws HTTP/1.1\r\nHost: throng\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                chunk = stream.recv(65536)
                if not chunk:
                    raise ConnectionResetError("closed without an answer")
                answer += chunk
            status = answer.split(b" ", 2)[1].decode()
            if status != "101":
                self.answered[status] += 1
                return
            self.counts["welcomed"] += 1
            stream.sendall(CLOSE)
            while stream.recv(65536):
                pass


def main():
    host, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    over = threading.Event()
    knockers = [Knocker(host, port, over) for _ in range(threads)]
    for knocker in knockers:
        knocker.start()
    while sum(knocker.counts["welcomed"] for knocker in knockers) < threads:
        time.sleep(0.01)
    print("coming and going", flush=True)
    sys.stdin.read()
    over.set()
    counts, answered = collections.Counter(), collections.Counter()
    for knocker in knockers:
        knocker.join(ANSWER_SECONDS + 5)
        counts += knocker.counts
        answered += knocker.answered
    result = {name: counts.pop(name, 0) for name in ("attempts", "welcomed", "refused", "silent")}
    longest = max(knocker.longest for knocker in knockers)
    print(json.dumps({**result, "answered": answered, "longest_s": round(longest, 2), "errors": counts}), flush=True)


if __name__ == "__main__":
    main()
