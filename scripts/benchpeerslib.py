"""Runs Martlet's engine and RocksDB's db_bench alike, for scripts/bench-peers."""

import glob
import itertools
import json
import os
import re
import subprocess
import tempfile
import time

from martletlib import expect

# db_bench's flags for a workload that needs a process of its own: they hold for all of a process.
# What comes in another process than the writes finds the cache warm all the same.
APART = {
    # Its batch size is that of writes, too.
    "multireadrandom": ["--batch_size=10"],
    # Ours seeks the first key of a prefix of seven bytes, which up to 256 keys share, and reads up
    # to ten; this one seeks any key and reads up to ten with the same prefix.
    "prefixscan": ["--prefix_size=7", "--prefix_same_as_start=1", "--seek_nexts=10"],
    "readwhilewriting": [],
}
# Reads of keys of which most exist: a fill draws each with repetition, and leaves out a third.
READS = {"readrandom", "multireadrandom", "readwhilewriting", "readseq", "seekrandom", "prefixscan"}
# Names that db_bench knows another way.
ALIASES = {"prefixscan": "seekrandom"}


class Peers:
    """Both sides with the same options."""

    def __init__(self, binary, options, seed):
        self.binary = binary
        self.options = options
        self.seed = seed

    def martlet(self, workloads, directory=None, **changed):
        """Rows of `martlet bench engine`, one per workload; `changed` are flags."""
        if directory is None:
            with tempfile.TemporaryDirectory(prefix="martlet-bench-") as directory:
                return self.martlet(workloads, directory, **changed)
        options = self.options
        flags = {
            "num": options.num, "key-size": 16, "value-size": options.value_size,
            "threads": options.threads, "cache-mb": options.cache_mb,
            "compression": options.compression, "blob-threshold": options.blob_threshold,
            "write-rate": options.write_rate, "wal": "on", "sync": "off", "seed": self.seed,
            # As db_bench, which times operations with --histogram only.
            "histogram": "off",
            **{name.replace("_", "-"): value for name, value in changed.items()}}
        command = [self.binary, "bench", "engine", "--dir", directory, "--workloads", workloads]
        for name, value in flags.items():
            command += [f"--{name}", str(value)]
        output = run(command + ["--json"])
        rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        expect([row["workload"] for row in rows] == workloads.split(","), output)
        for row in rows:
            expect_found(row)
        return rows

    def rocksdb(self, workloads):
        """Pairs of workload and operations a second, on one database."""
        pieces = [list(names) for _, names in itertools.groupby(
            workloads.split(","), key=lambda name: name if name in APART else None)]
        found = []
        with tempfile.TemporaryDirectory(prefix="rocksdb-bench-") as directory:
            for place, names in enumerate(pieces):
                warming = ["readrandom"] if place else []
                extra = list(APART.get(names[0], []))
                if names == ["readwhilewriting"] and self.options.write_rate:
                    extra.append(f"--benchmark_write_rate_limit={self.options.write_rate}")
                output = self.db_bench(warming + names, directory, extra)
                found += [(name, rate_of(name, output)) for name in names]
        return found

    def db_bench(self, names, directory, extra=(), threads=None):
        """Its output."""
        options = self.options
        # As many syncs as ours does.
        count = options.num // 1000 if names == ["fillsync"] else options.num
        exists = os.path.exists(f"{directory}/CURRENT")
        return run([
            "db_bench", f"--benchmarks={','.join(ALIASES.get(name, name) for name in names)}",
            f"--db={directory}", f"--use_existing_db={int(exists)}", f"--num={count}",
            "--key_size=16", f"--value_size={options.value_size}",
            f"--threads={threads or options.threads}",
            f"--cache_size={options.cache_mb << 20}", "--bloom_bits=10",
            f"--compression_type={options.compression}", *blob_flags(options),
            "--write_buffer_size=67108864", "--disable_wal=0", "--sync=0",
            "--multiread_batched=1", f"--seed={self.seed}", *extra])


def expect_found(row):
    """Reads that find nothing are fast, and measure nothing."""
    workload, found, count = row["workload"], row["found"], row["ops"]
    if workload in READS:
        expect(count and 2 * found >= count, f"{workload} found {found} of {count} keys")
    if workload == "readmissing":
        expect(found == 0, f"{workload} found {found} keys that nobody wrote")


def blob_flags(options):
    if not options.blob_threshold:
        return []
    return ["--enable_blob_files=1", f"--min_blob_size={options.blob_threshold}",
            f"--blob_compression_type={options.compression}",
            "--enable_blob_garbage_collection=1"]


def rate_of(name, output):
    """Operations a second, of the last run of `name`."""
    match = re.findall(
        rf"^{ALIASES.get(name, name)}\s*:\s*([\d.]+) micros/op\s+([\d.]+) ops/sec", output,
        re.MULTILINE)
    expect(match, f"db_bench said nothing of {name}:\n{output}")
    micros, rate = match[-1]
    # A compaction of everything is one operation of many seconds: 0 a second.
    return 1e6 / float(micros) if name == "compact" else float(rate)


def counter_of(name, output):
    """A counter of db_bench's --statistics."""
    match = re.search(rf"^rocksdb\.{re.escape(name)} COUNT : (\d+)", output, re.MULTILINE)
    expect(match, f"db_bench said nothing of {name}:\n{output}")
    return int(match.group(1))


def percentiles_of(output):
    """p50, p99, p99.9 and the longest of db_bench's last --histogram, microseconds."""
    longest = re.findall(r"Median: [\d.]+\s+Max: ([\d.]+)", output)
    rest = re.findall(r"P50: ([\d.]+) P75: [\d.]+ P99: ([\d.]+) P99\.9: ([\d.]+)", output)
    expect(longest and rest, f"db_bench printed no histogram:\n{output}")
    return [float(value) for value in (*rest[-1], longest[-1])]


def synced_writes(seconds):
    """Blocks of 4 KiB a second that one thread writes in a row, each followed by fdatasync, into a
    file that is there: no metadata changes, as in a log whose segments are used again."""
    block, size = os.urandom(4096), 64 << 20
    with tempfile.NamedTemporaryFile(prefix="fdatasync-") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
        count, start = 0, time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            os.pwrite(file.fileno(), block, count * len(block) % size)
            os.fdatasync(file.fileno())
            count += 1
    return count / passed


def table_bytes(directory):
    """Sizes of the tables that RocksDB left when it closed: those in use."""
    return sum(os.path.getsize(path) for path in glob.glob(f"{directory}/*.sst"))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    expect(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout
