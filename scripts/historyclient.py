"""Clients that read and write registers of a cluster and record what they saw, unknown outcomes
included, for linearizability.py."""

import random
import threading
import time

from linearizability import NEVER, READ, WRITE, Operation
from martletlib import Resp, RespError

# A key is used for so long, so that the history of one is short.
EPOCH_SECONDS = 20
KEYS = 6


class History:
    def __init__(self):
        self.start = time.monotonic()
        self.stops = threading.Event()
        self.clients = []

    def run(self, nodes, count, seed):
        self.clients = [Client(self, nodes, number, seed) for number in range(count)]
        for client in self.clients:
            client.start()

    def stop(self):
        self.stops.set()
        for client in self.clients:
            client.join(timeout=60)
            if client.is_alive() or client.failure:
                raise RuntimeError(f"client {client.number} failed: {client.failure}")

    def acknowledged(self):
        return sum(client.acknowledged for client in self.clients)

    def operations(self):
        """{key: [Operation]} of all clients."""
        found = {}
        for client in self.clients:
            for key, operation in client.operations:
                found.setdefault(key, []).append(operation)
        return found


class Client(threading.Thread):
    def __init__(self, history, nodes, number, seed):
        super().__init__(daemon=True)
        self.history = history
        self.nodes = nodes
        self.number = number
        self.random = random.Random(f"{seed}-{number}")
        self.written = 0
        self.operations = []
        self.acknowledged = 0
        self.unknown = 0
        self.refused = 0
        self.failure = None

    def run(self):
        try:
            while not self.history.stops.is_set():
                self.work(self.random.choice(self.nodes))
        except Exception as error:  # told by whoever stops us
            self.failure = error
            raise

    def work(self, node):
        """Through one connection until it breaks, or for a while."""
        try:
            connection = Resp(node.resp_port, node.host, timeout=3)
        except OSError:
            time.sleep(0.1)
            return
        with connection:
            for _ in range(self.random.randrange(20, 400)):
                if self.history.stops.is_set() or not self.ask(connection):
                    return
                time.sleep(self.random.uniform(0, 0.012))

    def ask(self, connection):
        """False if the connection is of no more use."""
        epoch = int((time.monotonic() - self.history.start) / EPOCH_SECONDS)
        key = f"{epoch}:{self.random.randrange(KEYS)}"
        if self.random.random() < 0.5:
            return self.read(connection, key)
        return self.write(connection, key)

    def read(self, connection, key):
        start = time.monotonic()
        try:
            value = connection.command("GET", key)
        except RespError:
            self.refused += 1
            time.sleep(0.02)
            return True
        except OSError:
            return False
        self.record(key, READ, value, start, time.monotonic())
        return True

    def write(self, connection, key):
        value = b"%d-%d" % (self.number, self.written)
        self.written += 1
        start = time.monotonic()
        try:
            connection.command("SET", key, value)
        except RespError as error:
            if error.is_uncertain:
                self.unknown += 1
                self.record(key, WRITE, value, start, NEVER)
            else:
                self.refused += 1  # certainly not applied: nobody may ever read it
                time.sleep(0.02)
            return True
        except OSError:
            self.unknown += 1
            self.record(key, WRITE, value, start, NEVER)
            return False
        self.acknowledged += 1
        self.record(key, WRITE, value, start, time.monotonic())
        return True

    def record(self, key, kind, value, start, end):
        self.operations.append((key, Operation(kind, value, start, end, self.number)))
