"""Network namespaces, one for each node, on a bridge; and small file systems that can be filled.
Needs root. What a run that was killed left behind is removed by the next one."""

import fcntl
import os
import subprocess

LOCK = "/run/lock/martlet-namespaces"
BRIDGE = "martlet-br"
GATEWAY = "10.77.0.1"


class Unavailable(Exception):
    """This machine or user cannot do it; the text says why."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Namespaces:
    def __init__(self, count):
        if os.geteuid() != 0:
            raise Unavailable("network namespaces need root")
        self.count = count
        # Held until this process ends.
        self.lock = open(LOCK, "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unavailable("another run has them") from None
        self.remove()
        try:
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
            for number in range(1, count + 1):
                self._add(number)
        except FileNotFoundError:
            raise Unavailable("there is no `ip` command (Debian: iproute2)") from None
        except Unavailable:
            self.remove()
            raise

    def _add(self, number):
        name, inside = self.name(number), f"martlet-i{number}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", self.link(number), "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", self.link(number), "master", BRIDGE, "up")
        run("ip", "link", "set", inside, "netns", name)
        run("ip", "-n", name, "address", "add", f"{self.host(number)}/24", "dev", inside)
        run("ip", "-n", name, "link", "set", inside, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")

    def name(self, number):
        return f"martlet-{number}"

    def link(self, number):
        return f"martlet-v{number}"

    def host(self, number):
        return f"10.77.0.{10 + number}"

    def prefix(self, number):
        return ["ip", "netns", "exec", self.name(number)]

    def plug(self, number, is_in):
        """Pulls the cable, or puts it in again."""
        run("ip", "link", "set", self.link(number), "up" if is_in else "down")

    def remove(self):
        for number in range(1, self.count + 1):
            subprocess.run(["ip", "netns", "del", self.name(number)], capture_output=True)
            subprocess.run(["ip", "link", "del", self.link(number)], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


class SmallDisk:
    """An ext4 of its own, mounted at `directory`."""

    def __init__(self, image, directory, mebibytes):
        if os.geteuid() != 0:
            raise Unavailable("mounting needs root")
        self.directory = directory
        self.ballast = f"{directory}/ballast"
        run("truncate", "-s", f"{mebibytes}M", image)
        run("mkfs.ext4", "-q", "-m", "0", image)
        os.makedirs(directory, exist_ok=True)
        run("mount", "-o", "loop", image, directory)

    def fill(self):
        """Takes what is free."""
        space = os.statvfs(self.directory)
        with open(self.ballast, "wb") as file:
            left = space.f_bavail * space.f_frsize
            while left > 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, left)
                except OSError:
                    left //= 2

    def empty(self):
        if os.path.exists(self.ballast):
            os.remove(self.ballast)

    def unmount(self):
        subprocess.run(["umount", "--lazy", self.directory], capture_output=True)
