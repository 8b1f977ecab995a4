"""What the scripts share: a RESP client, a local cluster of real processes, HTTP, values that can be
checked. Python's standard library only, so that a machine with Swift and Python needs no more."""

import atexit
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Deviation(Exception):
    """Something was not as it must be: the script ends with 1."""


def log(text):
    print(f"[{time.monotonic() - START:7.2f} s] {text}", flush=True)


START = time.monotonic()


def expect(condition, text):
    if not condition:
        raise Deviation(text)


def wait_for(what, seconds, check, interval=0.1):
    """Calls `check` until it returns something true; returns that. Raises after `seconds`."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            result = check()
            if result:
                return result
        except (OSError, RespError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise Deviation(f"{what}: not within {seconds} s" + (f" ({last})" if last else ""))
        time.sleep(interval)


def run_main(main, seconds):
    """Runs `main` with a time limit; ends the process with its exit code. Nothing stays behind:
    clusters stop at exit."""

    def out_of_time(*_):
        raise Deviation(f"not finished after {seconds} s")

    def asked_to_stop(number, _):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.alarm(seconds)
    try:
        code = main()
    except Deviation as deviation:
        log(f"DEVIATION: {deviation}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    signal.alarm(0)
    sys.exit(code or 0)


def find_binary(given=None):
    """The martlet executable: the given one, or the release build, which is made if need be."""
    if given:
        path = pathlib.Path(given).resolve()
        expect(os.access(path, os.X_OK), f"{path} is no executable")
        return str(path)
    build = ["swift", "build", "-c", "release", "--product", "martlet"]
    subprocess.run(build + ["--quiet"], cwd=ROOT, check=True)
    shown = subprocess.run(
        build[:4] + ["--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return shown.stdout.strip() + "/martlet"


# Values -------------------------------------------------------------------------------------------


def make_value(key, version, length=100):
    """The bytes that `key` must have in `version`: anybody can recompute them."""
    seed = hashlib.blake2b(b"%d:" % version + key, digest_size=32).hexdigest().encode()
    return (seed * (length // len(seed) + 1))[:length]


# RESP ---------------------------------------------------------------------------------------------


class RespError(Exception):
    """An error reply."""

    @property
    def is_uncertain(self):
        return str(self).startswith("UNCERTAIN")


class Resp:
    """A connection speaking RESP2. Error replies are returned as `RespError` by `pipeline` and
    raised by `command`."""

    def __init__(self, port, host="127.0.0.1", timeout=20):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", buffering=1 << 18)

    def close(self):
        self.reader.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def command(self, *arguments):
        reply = self.pipeline([arguments])[0]
        if isinstance(reply, RespError):
            raise reply
        return reply

    def pipeline(self, commands):
        self.socket.sendall(b"".join(encode(command) for command in commands))
        return [self.read_reply() for _ in commands]

    def read_reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            data = self.reader.read(length + 2)
            if len(data) != length + 2:
                raise ConnectionError("the connection ended")
            return data[:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"-":
            return RespError(rest.decode(errors="replace"))
        if kind == b"*":
            count = int(rest)
            return None if count < 0 else [self.read_reply() for _ in range(count)]
        raise ConnectionError(f"not RESP2: {line!r}")


def encode(arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()
        elif isinstance(argument, int):
            argument = b"%d" % argument
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


# Cluster ------------------------------------------------------------------------------------------


class Node:
    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.resp_port = cluster.port + 10 * (number - 1)
        self.http_port = self.resp_port + 2
        self.config = f"{cluster.directory}/node-{number}.yaml"
        self.data = f"{cluster.directory}/node-{number}"
        self.process = None  # of ours; None while `martlet dev` runs it
        self.host = "127.0.0.1"
        self.prefix = []  # of the command that runs it, such as `ip netns exec`
        self.environment = None

    def __repr__(self):
        return f"node {self.number}"

    def connect(self, timeout=20):
        return Resp(self.resp_port, self.host, timeout)

    def get(self, path, timeout=10):
        url = f"http://{self.host}:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.read()

    def api(self, name):
        return json.loads(self.get(f"/api/v1/{name}"))

    def is_ready(self):
        try:
            self.get("/readyz", timeout=2)
            return True
        except (OSError, urllib.error.URLError):
            return False

    def pid(self):
        if self.process:
            return self.process.pid
        return int(pathlib.Path(f"{self.cluster.directory}/node-{self.number}.pid").read_text())

    def start(self):
        """Runs the node as a process of ours."""
        with open(f"{self.cluster.directory}/node-{self.number}.log", "ab") as output:
            self.process = subprocess.Popen(
                [*self.prefix, self.cluster.binary, "serve", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, env=self.environment)

    def expect_running(self):
        """Of a process of ours that nobody killed."""
        if self.process and self.process.poll() is not None:
            raise Deviation(f"{self} ended with {self.process.returncode}: {self.last_words()}")

    def last_words(self):
        """What the log says of a crash, or its last lines."""
        lines = self.log_tail(500).splitlines()
        fatal = [line for line in lines if "Fatal error" in line or "critical" in line]
        return "\n".join(fatal[-3:] or lines[-5:])

    def wait_ready(self, seconds=60):
        def check():
            self.expect_running()
            return self.is_ready()

        wait_for(f"{self} to be ready", seconds, check)

    def end(self, number, seconds=20):
        """Sends a signal and waits until the process is gone."""
        pid = self.pid()
        os.kill(pid, number)
        if self.process:
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise Deviation(f"{self} did not end within {seconds} s") from None
            self.process = None
        else:
            wait_for(f"{self} to end", seconds, lambda: not is_running(pid), interval=0.02)

    def log_tail(self, lines=5):
        path = pathlib.Path(f"{self.cluster.directory}/node-{self.number}.log")
        if not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"
    except OSError:
        return False


class Cluster:
    """A local cluster, made and first run by `martlet dev`."""

    def __init__(self, binary, port, directory=None, nodes=3, settings=()):
        self.binary = binary
        self.port = port
        self.is_temporary = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="martlet-")
        self.settings = list(settings)
        self.dev = None
        self.keeps_directory = False
        self.nodes = [Node(self, number) for number in range(1, nodes + 1)]
        atexit.register(self.stop)

    def start_dev(self, seconds=90):
        command = [self.binary, "dev", "--nodes", str(len(self.nodes)), "--dir", self.directory,
                   "--port", str(self.port)]
        for setting in self.settings:
            command += ["--set", setting]
        with open(f"{self.directory}/dev.log", "ab") as output:
            self.dev = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output,
                start_new_session=True)
        deadline = time.monotonic() + seconds
        os.set_blocking(self.dev.stdout.fileno(), False)
        line = b""
        while not line.endswith(b"\n"):
            line += self.dev.stdout.read() or b""
            if self.dev.poll() is not None:
                text = pathlib.Path(f"{self.directory}/dev.log").read_text(errors="replace")
                raise Deviation(f"martlet dev ended with {self.dev.returncode}: {text.strip()}")
            if time.monotonic() > deadline:
                raise Deviation(f"martlet dev was not ready within {seconds} s")
            time.sleep(0.05)
        expect(line.startswith(b"ready"), f"martlet dev printed {line!r}")

    def stop_dev(self, seconds=40):
        """SIGTERM, and no process of it may be left."""
        if not self.dev:
            return
        pids = [node.pid() for node in self.nodes if not node.process and self._has_pid(node)]
        self.dev.send_signal(signal.SIGTERM)
        try:
            self.dev.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Deviation(f"martlet dev did not stop within {seconds} s") from None
        self.dev.stdout.close()
        self.dev = None
        left = [pid for pid in pids if is_running(pid)]
        expect(not left, f"martlet dev left processes behind: {left}")

    def _has_pid(self, node):
        return os.path.exists(f"{self.directory}/node-{node.number}.pid")

    def stop(self):
        """Ends everything, whatever state it is in. Safe to call twice."""
        for node in self.nodes:
            if node.process:
                node.process.kill()
                node.process.wait()
                node.process = None
        if self.dev:
            self.dev.terminate()
            try:
                self.dev.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.dev.kill()  # its nodes end with it
                self.dev.wait()
            self.dev = None
        if self.is_temporary and not self.keeps_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def leader(self, among=None):
        """The node that says it leads, if one of `among` does; with two, that of the later term."""
        found = None
        for node in among or self.nodes:
            try:
                status = node.api("status")
            except (OSError, ValueError):
                continue
            if status["role"] == "leader" and (not found or status["term"] > found[0]):
                found = (status["term"], node)
        return found[1] if found else None

    def wait_leader(self, seconds=20, among=None):
        return wait_for("a leader", seconds, lambda: self.leader(among), interval=0.05)

    def wait_converged(self, seconds=60):
        """Until all nodes have applied everything, have one frontier and one state root there."""
        last = []

        def check():
            last[:] = [node.api("status") for node in self.nodes]
            return (len({s["commit"] for s in last}) == 1
                    and all(s["applied"] == s["commit"] for s in last)
                    and len({s["frontier"] for s in last}) == 1)

        try:
            wait_for("equal positions", seconds, check)
        except Deviation as deviation:
            shown = [{k: s[k] for k in ("node", "role", "commit", "applied", "frontier",
                                        "stateRoot")} for s in last]
            raise Deviation(f"{deviation}: {shown}") from None
        roots = {s["stateRoot"] for s in last}
        expect(len(roots) == 1, f"state roots differ at frontier {last[0]['frontier']}: {roots}")
        return last[0]
