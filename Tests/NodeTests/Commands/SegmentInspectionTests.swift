import Engine
import Node
import Testing

@Suite struct SegmentInspectionTests {
    private let files = MemoryFileSystem(seed: 5)
    private let genesis = logGenesis(cluster: "test", group: 0)

    /// A log of `count` writes in one segment; returns the segment's path.
    private func makeLog(_ count: Int, keys: KeyRing = .plain) throws -> String {
        try files.createDirectory("log")
        let state = try HardState.open(files, "state", nonce: 1, keys: keys)
        var options = LogOptions()
        options.keys = keys
        let (log, _) = try Log.open(
            files, "log", hardState: state, genesis: genesis, group: 0, options: options,
            base: LogBase())
        var previous = genesis
        for number in 1...UInt64(count) {
            var batch = WriteBatch()
            batch.put([0x6b, UInt8(number)], [0x76])
            batch.delete([0x64])
            batch.put([0x65], [0x76], expiry: 77)
            batch.deleteRange([0x72], nil)
            batch.singleDelete([0x73])
            batch.merge([0x63], [5], by: .append)
            let entry = Entry(
                kind: .write, payload: batch.payload(horizonDistance: 0), previous: previous,
                group: 0, term: Term(1), index: LogIndex(number),
                firstSequence: SequenceNumber(6 * number), clock: 1000 + number,
                commit: LogIndex(number - 1))
            previous = entry.header.checksum
            try log.append([entry], sync: true)
        }
        return "log/0000000000000001.seg"
    }

    @Test func everyEntryIsShownWithItsEffects() throws {
        let path = try makeLog(5)
        var items: [SegmentInspection.Item] = []
        let found = try SegmentInspection.inspect(files.open(path, .read)) { item in
            items.append(item)
            return true
        }
        #expect(found.isWhole && found.count == 5)
        #expect(found.first == LogIndex(1) && found.last?.index == LogIndex(5))
        #expect(found.last?.checksum == items.last?.header.checksum)
        #expect(items.map(\.header.index.rawValue) == [1, 2, 3, 4, 5])
        #expect(items.last?.durable == LogIndex(4))
        #expect(
            SegmentText.effects(try #require(items.last)) == [
                "  30 put \"k\\x05\" = \"v\"", "  31 delete \"d\"",
                "  32 put \"e\" until 77 = \"v\"", "  33 delete range \"r\" up to the last key",
                "  34 single delete \"s\"",
                "  35 merge \"c\" by \(MergeOperatorID.append): \"\\x05\"",
            ])
        #expect(SegmentText.line(items[0]).hasPrefix("1 term 1 write at 512 epoch "))
        #expect(SegmentText.summary(found).contains("entries 5, from 1 to 5 (term 1)"))
    }

    @Test func theReaderMayStopEarly() throws {
        let path = try makeLog(5)
        var seen = 0
        let found = try SegmentInspection.inspect(files.open(path, .read)) { _ in
            seen += 1
            return seen < 2
        }
        #expect(seen == 2 && found.count == 5)
    }

    @Test func aDamagedEntryIsMissing() throws {
        let path = try makeLog(5)
        var offsets: [UInt64] = []
        _ = try SegmentInspection.inspect(files.open(path, .read)) { item in
            offsets.append(item.offset)
            return true
        }
        files.flip(path, offsets[2] + 60)
        let found = try SegmentInspection.inspect(files.open(path, .read)) { _ in true }
        #expect(!found.isWhole && found.count == 4)
        #expect(found.holes.map(\.lower) == [LogIndex(3)])
        #expect(found.holes.map(\.upper) == [LogIndex(3)])
        #expect(SegmentText.summary(found).contains("missing: 3 to 3"))
    }

    @Test func aDamagedHeaderIsSaidAndTheEntriesStillShown() throws {
        let path = try makeLog(3)
        files.flip(path, 20)
        let found = try SegmentInspection.inspect(files.open(path, .read)) { _ in true }
        #expect(found.headerDamage != nil && !found.isWhole)
        #expect(found.count == 3)
    }

    @Test func aTornFrameBehindTheLastOneIsSaid() throws {
        let path = try makeLog(4)
        var last: UInt64 = 0
        _ = try SegmentInspection.inspect(files.open(path, .read)) { item in
            last = item.offset
            return true
        }
        // In the frame's header, and in what it holds.
        for offset in [last + 4, last + 70] {
            files.flip(path, offset)
            let found = try SegmentInspection.inspect(files.open(path, .read)) { _ in true }
            #expect(found.isWhole && found.count == 3 && found.hasLeftovers)
            #expect(SegmentText.summary(found).hasSuffix("; stale or torn frames behind"))
            files.flip(path, offset)
        }
        let found = try SegmentInspection.inspect(files.open(path, .read)) { _ in true }
        #expect(found.count == 4 && !found.hasLeftovers)
    }

    @Test func bothCopiesOfAnEncryptedHeaderCount() throws {
        let key = try EncryptionKey([UInt8](repeating: 7, count: 32))
        let keys = KeyRing(try EncryptionKeys(current: 1, keys: [1: key]))
        let path = try makeLog(3, keys: keys)
        func inspect() throws -> SegmentInspection {
            try SegmentInspection.inspect(files.open(path, .read), keys: keys) { _ in true }
        }
        #expect(try inspect().isWhole)
        files.flip(path, 4096 + 30)
        let second = try inspect()
        #expect(second.headerDamage == "its second copy is damaged" && second.count == 3)
        files.flip(path, 4096 + 30)
        try files.open(path, .write).truncate(to: 600)
        let short = try inspect()
        #expect(!short.isWhole && short.count == 0)
    }

    @Test func whatIsNoSegmentIsRefused() throws {
        let file = try files.open("other", .create)
        try file.writeAll([UInt8](repeating: 7, count: 4096), at: 0)
        #expect(throws: EngineError.self) {
            try SegmentInspection.inspect(file) { _ in true }
        }
    }
}
