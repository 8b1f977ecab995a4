"""A proxy for the links between nodes, whose faults are switched while it runs: delay, bandwidth,
stalls, one-way cuts, resets. It runs as a process of its own (`Proxy` starts it) and takes one JSON
object a line.

A link is a direction: bytes from node A to node B, whichever of them opened the connection. So each
connection belongs to two links, and a cut of one of them leaves the other as it is: what is sent is
not read, acknowledgements of the other way go on, nobody is told."""

import asyncio
import json
import subprocess
import sys
import time

CHUNK = 64 << 10
WHOLE = {"delay": 0.0, "bytes_per_second": 0, "cut": False}


class Proxy:
    """Runs the proxy. `routes`: (from, to, (host, port) to listen on, (host, port) of `to`)."""

    def __init__(self, routes):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send({"routes": routes})
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the fault proxy did not start")

    def set(self, source, target, **fault):
        """The link has this fault, and no other, from now on."""
        self._send({"link": [source, target], "fault": {**WHOLE, **fault}})

    def reset(self, one, other):
        """Connections between them end with a reset."""
        self._send({"reset": [one, other]})

    def heal(self):
        self._send({"heal": True})

    def stop(self):
        self.process.kill()
        self.process.wait()

    def _send(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()


class Links:
    def __init__(self):
        self.faults = {}
        self.changed = asyncio.Event()
        self.connections = set()  # (from, to, writer of either side)

    def fault(self, link):
        return self.faults.get(link, WHOLE)

    def apply(self, command):
        if "link" in command:
            self.faults[tuple(command["link"])] = command["fault"]
        elif "heal" in command:
            self.faults.clear()
        elif "reset" in command:
            for source, target, writers in list(self.connections):
                if {source, target} == set(command["reset"]):
                    for writer in writers:
                        writer.transport.abort()
        self.changed.set()
        self.changed = asyncio.Event()

    async def whole(self, link):
        """Returns when the link is not cut."""
        while self.fault(link)["cut"]:
            await self.changed.wait()

    async def serve(self, source, target, address, reader, writer):
        try:
            # A cut link lets no connection come about.
            await self.whole((source, target))
            await self.whole((target, source))
            far_reader, far_writer = await asyncio.wait_for(
                asyncio.open_connection(*address), timeout=5)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()
            return
        entry = (source, target, (writer, far_writer))
        self.connections.add(entry)
        pumps = [asyncio.ensure_future(self.pump((source, target), reader, far_writer)),
                 asyncio.ensure_future(self.pump((target, source), far_reader, writer))]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            pass
        finally:
            self.connections.discard(entry)
            for pump in pumps:
                pump.cancel()
            writer.transport.abort()
            far_writer.transport.abort()

    async def pump(self, link, reader, writer):
        """One direction. What is delayed stands in a queue, so that delay does not cost
        bandwidth; the queue is bounded, as a socket's buffer is."""
        queue = asyncio.Queue(maxsize=256)
        sending = asyncio.ensure_future(self.send(link, queue, writer))
        try:
            while data := await reader.read(CHUNK):
                put = asyncio.ensure_future(
                    queue.put((time.monotonic() + self.fault(link)["delay"], data)))
                await asyncio.wait({put, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    put.cancel()
                    break
            else:
                await queue.put((0, b""))
            await sending
        finally:
            sending.cancel()

    async def send(self, link, queue, writer):
        while True:
            due, data = await queue.get()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            await self.whole(link)
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            if rate := self.fault(link)["bytes_per_second"]:
                await asyncio.sleep(len(data) / rate)


async def serve_all():
    links = Links()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    servers = []
    for source, target, listen, address in json.loads(await commands.readline())["routes"]:
        def connected(reader, writer, source=source, target=target, address=tuple(address)):
            return links.serve(source, target, address, reader, writer)

        servers.append(await asyncio.start_server(connected, *listen))
    print("ready", flush=True)
    while line := await commands.readline():
        links.apply(json.loads(line))


if __name__ == "__main__":
    asyncio.run(serve_all())
