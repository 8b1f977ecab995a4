// `martlet bench`, and `engine` of it: the workloads of RocksDB's db_bench on the embedded engine.
import ArgumentParser
import Engine

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure the parts of a node.",
        subcommands: [EngineBenchCommand.self, ClusterBenchCommand.self])
}

package struct EngineBenchCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "engine", abstract: "Run db_bench's workloads on the embedded engine.",
        discussion: """
            The workloads run in the order given, on one database in DIR, which is kept. Each \
            thread does N operations on N keys; but fillsync, which syncs every write, N/1000 on \
            N/1000 keys, and deleterange, whose ranges hold 100 keys, N/100. multireadrandom gets \
            keys in batches, each from one state: its operations are keys, its latencies those of \
            batches. prefixscan seeks the first key with a random prefix, which up to 256 keys \
            share, and reads up to 10. mergerandom merges an operand into a random key. With \
            --json one object per workload is printed.
            """)

    @Option(help: ArgumentHelp("Directory of the database.", valueName: "dir"))
    var dir: String

    @Option(
        help: ArgumentHelp(
            "Comma-separated: "
                + BenchmarkWorkload.allCases.map(\.rawValue).joined(separator: ", ") + ".",
            valueName: "list"))
    var workloads = "fillrandom,readrandom"

    @Option(help: "Keys, and operations of each thread.")
    var num = 1_000_000

    @Option(help: "Bytes of a key.")
    var keySize = 16

    @Option(help: "Bytes of a value.")
    var valueSize = 100

    @Option(help: "Threads.")
    var threads = 1

    @Option(help: "Keys of a batch of multireadrandom.")
    var batchSize = 10

    @Option(help: "Of mergerandom: int64-add (8 bytes) or append (--value-size bytes).")
    var mergeOperator = "int64-add"

    @Option(help: "Block cache, MiB.")
    var cacheMb = 8

    @Option(help: "Row cache, MiB; 0: none.")
    var rowCacheMb = 0

    @Option(help: "none, lz4, zstd:LEVEL or zstd-dict:LEVEL.")
    var compression = "none"

    @Option(help: "Values of so many bytes go to blob files; 0 keeps all with their keys.")
    var blobThreshold = 0

    @Option(help: "on or off: encrypt the files, with a key that is no secret.")
    var encryption = "off"

    @Option(help: "on or off: write the log at all.")
    var wal = "on"

    @Option(help: "on or off: sync the log at each write.")
    var sync = "off"

    @Option(
        help: ArgumentHelp(
            "Bytes of keys and values a second of the writer beside readwhilewriting; 0: no limit."
        ))
    var writeRate = 0

    @Option(
        help: ArgumentHelp(
            "Skew of the keys that readrandom, multireadrandom and readwhilewriting get, as "
                + "db_bench's: the larger, the fewer get most; 0: all alike."))
    var readRandomExpRange = 0.0

    @Option(help: "Seed of keys and values.")
    var seed: UInt64 = 301

    @Option(help: "on or off: time every operation, which makes the fastest a third slower.")
    var histogram = "on"

    @Flag(help: "One JSON object per workload.")
    var json = false

    package init() {}

    package func validate() throws {
        _ = try options()
    }

    package func options() throws -> BenchmarkOptions {
        var options = BenchmarkOptions()
        options.directory = dir
        options.workloads = try workloads.split(separator: ",").map { name in
            guard let workload = BenchmarkWorkload(rawValue: String(name)) else {
                let known = BenchmarkWorkload.allCases.map(\.rawValue)
                let hint = NearestKey.suggestion(for: String(name), among: known)
                throw ValidationError(
                    "--workloads: unknown workload \"\(name)\""
                        + (hint.map { "; did you mean \($0)?" } ?? ""))
            }
            return workload
        }
        guard !options.workloads.isEmpty else {
            throw ValidationError("--workloads: none given")
        }
        options.count = try FlagRange.checked("--num", num, 1...1_000_000_000)
        options.keyBytes = try FlagRange.checked("--key-size", keySize, 8...(64 << 10) - 1)
        options.valueBytes = try FlagRange.checked("--value-size", valueSize, 0...(8 << 20))
        options.threads = try FlagRange.checked("--threads", threads, 1...256)
        options.batchKeys = try FlagRange.checked("--batch-size", batchSize, 1...100_000)
        guard let mergeOperator = BenchmarkMergeOperator(rawValue: mergeOperator) else {
            throw ValidationError(
                "--merge-operator: \"\(mergeOperator)\" is not one of int64-add, append")
        }
        options.mergeOperator = mergeOperator
        options.cacheBytes = UInt64(try FlagRange.checked("--cache-mb", cacheMb, 1...1 << 20)) << 20
        options.rowCacheBytes =
            UInt64(try FlagRange.checked("--row-cache-mb", rowCacheMb, 0...1 << 20)) << 20
        options.readSkew = try FlagRange.checked(
            "--read-random-exp-range", readRandomExpRange, 0...100)
        guard let codec = Compression(compression) else {
            throw ValidationError(
                "--compression: \"\(compression)\" is none of \(Compression.allowed)")
        }
        options.compression = CompressionPolicy(codec)
        options.blobThreshold = UInt32(
            try FlagRange.checked("--blob-threshold", blobThreshold, 0...Limits.valueBytesMax))
        options.isEncrypted = try checked("--encryption", encryption)
        options.usesLog = try checked("--wal", wal)
        options.syncsLog = try checked("--sync", sync)
        guard options.usesLog || !options.syncsLog else {
            throw ValidationError("--sync on needs --wal on")
        }
        guard options.usesLog || !options.workloads.contains(.fillsync) else {
            throw ValidationError("fillsync needs --wal on")
        }
        options.writeRate = UInt64(
            try FlagRange.checked("--write-rate", writeRate, 0...1 << 40))
        options.seed = seed
        options.timesOperations = try checked("--histogram", histogram)
        return options
    }

    package func run() throws {
        let options = try options()
        let database = try EngineBenchmarkBinding.open(options)
        try EngineBenchmark(database, options).run { report in
            ProcessExit.printLine(json ? report.json : report.line)
        }
        try database.close()
    }

    private func checked(_ flag: String, _ text: String) throws -> Bool {
        switch text {
        case "on": return true
        case "off": return false
        default: throw ValidationError("\(flag): \"\(text)\" is neither on nor off")
        }
    }
}
