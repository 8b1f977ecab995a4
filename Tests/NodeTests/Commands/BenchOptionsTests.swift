import ArgumentParser
import Engine
import Node
import Testing

@Suite struct BenchOptionsTests {
    @Test func everyFlagArrives() throws {
        let command = try EngineBenchCommand.parse([
            "--dir", "/d", "--workloads",
            "fillseq,fillrandom,fillsync,overwrite,mergerandom,deleterange,compact,"
                + "waitforcompaction,readrandom,multireadrandom,readmissing,seekrandom,prefixscan,"
                + "readseq,readwhilewriting,filterbuild,filterquery,xxh3",
            "--num", "10", "--key-size", "24", "--value-size", "0", "--batch-size", "32",
            "--merge-operator", "append",
            "--threads", "4", "--cache-mb", "64", "--compression", "zstd-dict:9", "--wal", "on",
            "--sync", "on", "--seed", "42", "--blob-threshold", "1024", "--json",
            "--histogram", "off", "--row-cache-mb", "16", "--read-random-exp-range", "7.5",
        ])
        let options = try command.options()
        #expect(options.directory == "/d")
        #expect(options.workloads == BenchmarkWorkload.allCases)
        #expect(options.count == 10 && options.keyBytes == 24 && options.valueBytes == 0)
        #expect(options.threads == 4 && options.cacheBytes == 64 << 20)
        #expect(options.rowCacheBytes == 16 << 20 && options.readSkew == 7.5)
        #expect(options.compression.base == .zstdDictionary(level: 9))
        #expect(options.usesLog && options.syncsLog)
        #expect(options.seed == 42 && options.batchKeys == 32)
        #expect(options.blobThreshold == 1024)
        #expect(options.mergeOperator == .append && !options.timesOperations)
    }

    @Test func defaultsAreThoseOfTheComparison() throws {
        let options = try EngineBenchCommand.parse(["--dir", "/d"]).options()
        #expect(options.workloads == [.fillrandom, .readrandom])
        #expect(options.count == 1_000_000 && options.keyBytes == 16 && options.valueBytes == 100)
        #expect(options.threads == 1 && options.compression == .none)
        #expect(options.blobThreshold == 0)
        #expect(options.rowCacheBytes == 0 && options.readSkew == 0)
        #expect(options.usesLog && !options.syncsLog && options.timesOperations)
        #expect(options.batchKeys == 10 && options.mergeOperator == .int64Add)
    }

    @Test(arguments: [
        ["--workloads", ""], ["--workloads", "fillrnd"], ["--num", "0"], ["--key-size", "7"],
        ["--key-size", "65536"], ["--value-size", "-1"], ["--value-size", "8388609"],
        ["--threads", "0"], ["--threads", "257"], ["--cache-mb", "0"],
        ["--row-cache-mb", "-1"], ["--read-random-exp-range", "-1"],
        ["--read-random-exp-range", "nan"],
        ["--compression", "zip"], ["--compression", "zstd:23"],
        ["--wal", "maybe"], ["--sync", "1"],
        ["--wal", "off", "--sync", "on"], ["--seed", "-1"], ["--batch-size", "0"],
        ["--merge-operator", "max"], ["--blob-threshold", "-1"],
        ["--workloads", "fillsync", "--wal", "off"], ["--histogram", "no"],
    ])
    func wrongFlagsAreRefused(arguments: [String]) {
        #expect(throws: (any Error).self) {
            try EngineBenchCommand.parse(["--dir", "/d"] + arguments)
        }
    }
}
