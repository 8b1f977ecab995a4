"""A closed loop of puts on etcd through its HTTP/JSON gateway: Debian ships no load generator for
it. One process, one thread, bytes prepared beforehand, so that etcd is the slower side; the gateway
translates each request to gRPC inside of etcd's process, which a gRPC client would do itself."""

import base64
import json
import random
import selectors
import socket
import time


class Connection:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.since = 0.0

    def ask(self, request):
        self.since = time.perf_counter()
        self.socket.sendall(request)

    def answer(self):
        """The status line of a whole answer, or None if there is more to come."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("etcd closed a connection")
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ConnectionError(f"an answer without a length: {head!r}")
        length = int(head[at + 15:].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return None
        status = self.buffer.split(b"\r\n", 1)[0]
        self.buffer = self.buffer[end + 4 + length:]
        return status


def make_requests(port, count, keys, value_size):
    generator = random.Random(301)
    found = []
    for _ in range(count):
        key = b"%016d" % generator.randrange(keys)
        value = generator.randbytes(value_size)
        body = json.dumps({"key": base64.b64encode(key).decode(),
                           "value": base64.b64encode(value).decode()}).encode()
        found.append(b"POST /v3/kv/put HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                     % (port, len(body), body))
    return found


def run(port, clients, seconds, keys, value_size=100, warmup=1.0):
    """Puts/s and latencies in µs, as `martlet bench cluster --json` names them."""
    requests = make_requests(port, 10_000, keys, value_size)
    selector = selectors.DefaultSelector()
    connections = [Connection("127.0.0.1", port) for _ in range(clients)]
    latencies, errors, number = [], 0, 0
    start = time.perf_counter() + warmup
    end = start + seconds
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.ask(requests[number % len(requests)])
        number += 1
    now = 0.0
    while now < end:
        for key, _ in selector.select(timeout=1):
            connection = key.data
            status = connection.answer()
            if status is None:
                continue
            now = time.perf_counter()
            if connection.since >= start:
                if b" 200 " in status:
                    latencies.append(now - connection.since)
                else:
                    errors += 1
            connection.ask(requests[number % len(requests)])
            number += 1
        now = time.perf_counter()
    for connection in connections:
        connection.socket.close()
    latencies.sort()

    def at(part):
        return latencies[min(len(latencies) - 1, int(part * len(latencies)))] * 1e6

    if not latencies:
        raise ConnectionError("etcd answered no put")
    return {"ops_per_sec": len(latencies) / (now - start), "errors": {"http": errors} if errors
            else {}, "set": {"p50_us": at(0.5), "p99_us": at(0.99), "max_us": latencies[-1] * 1e6}}
