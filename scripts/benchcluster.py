"""`bench-peers cluster`: three nodes of Martlet (TLS between them, every acknowledged write durable
on a quorum) beside three of etcd (plain connections) and Redis with `appendfsync always`, two
replicas and WAIT 1, all on this machine. Martlet and Redis get the same load from `martlet bench
cluster` at their leader; etcd gets its own (etcdload.py)."""

import atexit
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import etcdload
import martletlib as lib
from martletlib import Cluster, Resp, RespError, expect, log, wait_for

PARTS = ["rates", "failover", "lag", "memory"]
ETCD, REDIS = 12379, 16379


def add_arguments(parser):
    group = parser.add_argument_group("cluster")
    group.add_argument("--parts", default="rates,failover,lag", help=f"of {','.join(PARTS)}")
    group.add_argument("--seconds", type=float, default=5, help="of each load")
    group.add_argument("--keys", type=int, default=100_000)
    group.add_argument("--kills", type=int, default=20)
    group.add_argument("--memory-seconds", type=float, default=600)
    group.add_argument("--port", type=int, default=21379)


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, measured, peer, ratio, aim, is_met):
        self.rows.append((what, measured, peer, ratio, aim, "met" if is_met else "missed"))
        log("  ".join(self.rows[-1]))

    def print(self):
        print("| what | Martlet | peer | ratio | aim | |\n|---|---:|---:|---:|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")


def run(options, machine):
    parts = options.parts.split(",")
    expect(set(parts) <= set(PARTS), f"--parts: of {PARTS}")
    binary = lib.find_binary(options.binary)
    table = Table()
    cluster = start_martlet(binary, options.port)
    peak = None
    if "rates" in parts:
        packages = {"etcd": "etcd-server", "redis-server": "redis-server"}
        missing = [package for name, package in packages.items() if not shutil.which(name)]
        if missing:
            subprocess.run([f"{lib.ROOT}/scripts/install-deps", *missing], check=True)
        peak = rates(cluster, options, table)
    if "lag" in parts:
        peak = peak or load(cluster.binary, port_of_leader(cluster), 64, options)["ops_per_sec"]
        lag(cluster, options, peak, table)
    if "failover" in parts:
        failover(cluster, options.kills, signal.SIGKILL, 300, table)
        failover(cluster, options.kills, signal.SIGSTOP, 1500, table)
    if "memory" in parts:
        memory(cluster, options, table)
    cluster.stop()
    print(f"\n{machine}\nthree nodes each, values of 100 B, {options.keys} keys, loads of"
          f" {options.seconds:g} s, median of {options.rounds}\n")
    table.print()
    return 0


# Loads --------------------------------------------------------------------------------------------


def load_command(binary, port, clients, options, *more):
    return [binary, "bench", "cluster", "--endpoints", f"127.0.0.1:{port}", "--clients",
            str(clients), "--keys", str(options.keys), "--warmup", "1", "--seconds",
            str(options.seconds), "--json", *more]


def load(binary, port, clients, options, *more):
    done = subprocess.run(load_command(binary, port, clients, options, *more),
                          capture_output=True, text=True, timeout=options.seconds + 60)
    expect(done.returncode == 0, f"bench cluster ended with {done.returncode}: {done.stderr}")
    result = json.loads(done.stdout)
    if result["errors"]:
        log(f"errors of port {port}: {result['errors']}")
    return result


def port_of_leader(cluster):
    return cluster.wait_leader().resp_port


def rates(cluster, options, table):
    found = {}
    etcd, redis = Etcd(), Redis()
    for number in range(1, options.rounds + 1):
        for clients in (64, 256, 1):
            # All three in turn, so that what else the machine does meets all.
            ours = load(cluster.binary, port_of_leader(cluster), clients, options)
            theirs = load(cluster.binary, REDIS, clients, options, "--wait", "1")
            puts = etcdload.run(etcd.port_of_leader(), clients, options.seconds, options.keys)
            for name, result in (("martlet", ours), ("redis", theirs), ("etcd", puts)):
                found.setdefault((name, clients), []).append(result)
            log(f"round {number}, {clients} clients, SET/s, p50 and p99 µs: " + "; ".join(
                f"{name} {found[name, clients][-1]['ops_per_sec']:,.0f}"
                f" {found[name, clients][-1]['set']['p50_us']:,.0f}"
                f" {found[name, clients][-1]['set']['p99_us']:,.0f}"
                for name in ("martlet", "redis", "etcd")))
    etcd.stop()
    redis.stop()

    def rate(name, clients):
        return statistics.median(r["ops_per_sec"] for r in found[name, clients])

    def latency(name, clients, part):
        return statistics.median(r["set"][part] for r in found[name, clients])

    for clients in (64, 256):
        for peer, aim in (("redis", 1.5), ("etcd", 10)):
            mine, other = rate("martlet", clients), rate(peer, clients)
            table.add(f"SET/s, {clients} clients, {peer}", f"{mine:,.0f}", f"{other:,.0f}",
                      f"{mine / other:.2f}", f"≥ {aim}", mine >= aim * other)
    for what, clients, part, aim in (("p99 of 64 clients, µs", 64, "p99_us", 0.5),
                                     ("p50 of one client, µs", 1, "p50_us", 0.7)):
        mine, other = latency("martlet", clients, part), latency("redis", clients, part)
        table.add(f"{what}, redis", f"{mine:,.0f}", f"{other:,.0f}", f"{mine / other:.2f}",
                  f"≤ {aim}", mine <= aim * other)
    return max(rate("martlet", 64), rate("martlet", 256))


# Clusters -----------------------------------------------------------------------------------------


def start_martlet(binary, port):
    cluster = Cluster(binary, port)
    # Its files; from then on every node is a process of ours.
    cluster.start_dev()
    cluster.stop_dev()
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        node.wait_ready()
    return cluster


class Peers:
    """Processes in a directory of their own."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="martlet-peers-")
        self.processes = []
        atexit.register(self.stop)

    def start(self, number, command):
        with open(f"{self.directory}/{number}.log", "ab") as output:
            self.processes.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True))

    def expect_running(self):
        """Somebody else's process may have the ports."""
        for number, process in enumerate(self.processes):
            if process.poll() is not None:
                text = pathlib.Path(f"{self.directory}/{number}.log").read_text(errors="replace")
                raise lib.Deviation(f"a peer ended with {process.returncode}: {text[-500:]}")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis(Peers):
    def __init__(self):
        super().__init__()
        for number in range(3):
            path = f"{self.directory}/{number}"
            os.mkdir(path)
            more = ["--replicaof", "127.0.0.1", str(REDIS)] if number else []
            self.start(number, [
                "redis-server", "--port", str(REDIS + number), "--dir", path, "--appendonly",
                "yes", "--appendfsync", "always", "--save", "", "--bind", "127.0.0.1", *more])

        def replicates():
            self.expect_running()
            with Resp(REDIS) as client:
                client.command("SET", "x", "y")
                return client.command("WAIT", "2", "500") == 2

        wait_for("Redis and its replicas", 30, replicates)


class Etcd(Peers):
    def __init__(self):
        super().__init__()
        everybody = ",".join(f"e{n}=http://127.0.0.1:{self.port(n) + 1}" for n in range(3))
        for number in range(3):
            client, peer = self.url(number), f"http://127.0.0.1:{self.port(number) + 1}"
            self.start(number, [
                "etcd", "--name", f"e{number}", "--data-dir", f"{self.directory}/{number}",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", everybody, "--log-level", "error"])
        wait_for("etcd's leader", 30, self.port_of_leader)

    def port(self, number):
        return ETCD + 10 * number

    def url(self, number):
        return f"http://127.0.0.1:{self.port(number)}"

    def port_of_leader(self):
        self.expect_running()
        for number in range(3):
            request = urllib.request.Request(
                f"{self.url(number)}/v3/maintenance/status", data=b"{}", method="POST")
            with urllib.request.urlopen(request, timeout=5) as answer:
                status = json.load(answer)
            if status.get("leader") == status["header"]["member_id"]:
                return self.port(number)
        return None


# Failover, lag, memory ----------------------------------------------------------------------------


def failover(cluster, times, number, aim, table):
    """From the signal until a write that was sent after it is acknowledged by a survivor."""
    taken = []
    for _ in range(times):
        cluster.wait_converged()
        leader = cluster.wait_leader()
        survivors = [node for node in cluster.nodes if node is not leader]
        if number == signal.SIGKILL:
            began = time.monotonic()
            leader.end(number)
        else:
            began = time.monotonic()
            os.kill(leader.pid(), number)
        taken.append((first_write(survivors) - began) * 1000)
        if number == signal.SIGKILL:
            leader.start()
        else:
            os.kill(leader.pid(), signal.SIGCONT)
        leader.wait_ready()
    median = statistics.median(taken)
    log(f"failover after {number.name}, ms: {' '.join(f'{one:.0f}' for one in sorted(taken))}")
    table.add(f"failover after {number.name}, ms, median of {times}", f"{median:,.0f}", "", "",
              f"≤ {aim}", median <= aim)


def first_write(nodes):
    """When the first of `nodes` acknowledged a write. Each is asked all the time."""
    found, times = threading.Event(), []

    def ask(node):
        with node.connect(timeout=30) as client:
            while not found.is_set():
                try:
                    client.command("SET", "failover", "x")
                    times.append(time.monotonic())
                    found.set()
                except RespError:
                    time.sleep(0.002)

    threads = [threading.Thread(target=ask, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    expect(found.wait(timeout=30), "no write within 30 s of the leader's end")
    for thread in threads:
        thread.join(timeout=30)
    return min(times)


def lag(cluster, options, peak, table):
    """From the acknowledgement of a write until a follower shows it, while a load goes on."""
    leader = cluster.wait_leader()
    follower = next(node for node in cluster.nodes if node is not leader)
    loading = subprocess.Popen(
        load_command(cluster.binary, leader.resp_port, 256, options, "--rate", f"{0.7 * peak:.0f}"),
        stdout=subprocess.PIPE, text=True)
    lags, number = [], 0
    try:
        with leader.connect() as writer, follower.connect() as reader:
            reader.command("READONLY")
            time.sleep(1)
            while loading.poll() is None:
                number += 1
                writer.command("SET", "lag", number)
                acknowledged = time.monotonic()
                while int(reader.command("GET", "lag") or 0) < number:
                    pass
                lags.append((time.monotonic() - acknowledged) * 1000)
                time.sleep(0.003)
    finally:
        loading.kill()
    result = json.loads(loading.communicate()[0])
    lags.sort()
    p99 = lags[int(len(lags) * 0.99)]
    log(f"lag over {len(lags)} probes, ms: p50 {statistics.median(lags):.2f}, p99 {p99:.2f}, max"
        f" {lags[-1]:.2f}; the load: {result['ops_per_sec']:,.0f}/s, {result['errors']}")
    table.add(f"lag p99 at {0.7 * peak:,.0f} SET/s, ms", f"{p99:.1f}", "", "", "≤ 10", p99 <= 10)


def memory(cluster, options, table):
    """The leader's resident memory while it has a load and a dead follower."""
    leader = cluster.wait_leader()
    dead = next(node for node in cluster.nodes if node is not leader)
    dead.end(signal.SIGKILL)
    command = load_command(cluster.binary, leader.resp_port, 64, options)
    command[command.index("--seconds") + 1] = str(options.memory_seconds)
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    sizes = []
    try:
        while loading.poll() is None:
            sizes.append(resident(leader.pid()))
            time.sleep(options.memory_seconds / 100)
    finally:
        loading.kill()
    result = json.loads(loading.communicate()[0])
    # Caches and memtables fill first.
    third = statistics.median(sizes[len(sizes) // 3:len(sizes) // 2])
    last = statistics.median(sizes[-len(sizes) // 6:])
    log(f"leader with a dead follower, {options.memory_seconds:g} s at"
        f" {result['ops_per_sec']:,.0f} SET/s, MiB: {' '.join(str(s) for s in sizes[::5])}")
    table.add(f"memory with a dead follower, MiB, after {options.memory_seconds / 2:g} s and"
              f" {options.memory_seconds:g} s", f"{third:.0f}, {last:.0f}", "",
              f"{last / third:.2f}", "≤ 1.1", last <= 1.1 * third)
    dead.start()
    dead.wait_ready()


def resident(pid):
    """MiB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) >> 10
