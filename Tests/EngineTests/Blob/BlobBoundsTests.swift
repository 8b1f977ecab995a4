// What keeps records short when there are many blob files: the last file of a flush takes the rest,
// a table that names enough of them ends, and a job moves what would name more.
import Engine
import Testing

@Suite struct BlobBoundsTests {
    private let bed: TableBed

    /// Each value of a flush has a file of its own.
    init() throws {
        bed = try TableBed()
        bed.blobs.threshold = 100
        bed.blobs.fileBytes = 1024
    }

    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number), count: 1100)
    }

    private func key(_ number: Int) -> [UInt8] { Array("key\(100 + number)".utf8) }

    private func flush(_ entries: [ModelEntry]) throws -> (
        table: TableHandle, blobs: [TableHandle]
    ) {
        let handles = try bed.flush(TableBed.memtable(entries), at: 64, horizon: 0)
        return (handles[0], Array(handles[1...]))
    }

    private var keys: [ModelEntry] {
        (0..<20).map { ModelEntry(key($0), UInt64($0 + 1), .put, value($0)) }
    }

    private func merge(
        _ table: TableHandle, _ blobs: [TableHandle], _ plan: BlobPlan
    ) throws -> MergeResult {
        let input = MergeInput(
            cursors: [try table.makeCursor(io: .blocking)], rangeTombstones: [],
            entrySum: table.record.entrySum, entryCount: table.record.entryCount)
        let parameters = MergeParameters(
            job: JobID(index: LogIndex(90), kind: .compaction), level: 1,
            rules: .compaction(horizon: .zero, clock: 0, isBottommost: false),
            targetBytes: 1 << 20, shape: bed.shape, blobs: plan)
        let merged = try TableMerge.run(
            [input], parameters, TableMerge.Storage(codec: .lz4), blobs: BlobFiles(blobs),
            makeFile: bed.factory)
        let result = try #require(merged)
        #expect(result.isBalanced)
        let record = CompactedRecord(
            job: LogIndex(90), tables: result.outputs.map(\.record),
            leader: FrontierRoot(frontier: .zero, root: .zero))
        #expect(
            try record.encoded().withUnsafeBytes { try CompactedRecord(decoding: $0) } == record)
        return result
    }

    private func view(_ result: MergeResult, _ blobs: [TableHandle]) throws -> ReadView {
        let outputs = result.outputs.map { bed.handle($0) }
        return ReadView(
            memtables: [], standIns: [],
            version: try Version(outputs.filter { !$0.record.isBlob }),
            blobs: BlobFiles(blobs + outputs.filter(\.record.isBlob)))
    }

    private func checkKeys(_ view: ReadView) throws {
        for number in 0..<20 {
            let found = try view.get(key(number), at: .max, now: 0, io: .blocking)
            #expect(found == LiveValue(value: value(number)), "\(number)")
        }
    }

    private func tables(_ result: MergeResult) -> [TableRecord] {
        result.outputs.map(\.record).filter { !$0.isBlob }
    }

    @Test func theLastFileOfAFlushTakesTheRest() throws {
        #expect(try flush(keys).blobs.count == 20)
        let other = try BlobBoundsTests()
        other.bed.blobs.bounds.files = 3
        let (table, blobs) = try other.flush(keys)
        #expect(blobs.map(\.record.entryCount) == [1, 1, 18])
        #expect(table.record.blobs.map(\.count) == [1, 1, 18])
    }

    @Test func aTableEndsOnceItNamesEnoughFiles() throws {
        let (table, blobs) = try flush(keys)
        var plan = BlobPlan()
        plan.bounds.tableFiles = 4
        let result = try merge(table, blobs, plan)
        #expect(result.outputs.count == 5 && tables(result).count == 5)
        #expect(tables(result).flatMap(\.blobs) == table.record.blobs)
        #expect(tables(result).allSatisfy { $0.blobs.count == 4 })
        try checkKeys(try view(result, blobs))
    }

    /// Versions of a key do not part, so their values move.
    @Test func theRestOfAKeyMovesToFilesOfTheJob() throws {
        let versions = (0..<10).map { ModelEntry(key(1), UInt64($0 + 1), .put, value($0)) }
        let (table, blobs) = try flush(versions)
        #expect(blobs.count == 10)
        var plan = BlobPlan()
        plan.bounds.tableFiles = 4
        let result = try merge(table, blobs, plan)
        #expect(tables(result).count == 1 && result.outputs.count == 2)
        #expect(tables(result)[0].blobs.map(\.count) == [1, 1, 1, 1, 6])
        #expect(result.dropped(.collected).count == 6)
        let view = try view(result, blobs)
        for number in 0..<10 {
            let found = try view.get(
                key(1), at: SequenceNumber(UInt64(number + 1)), now: 0, io: .blocking)
            #expect(found == LiveValue(value: value(number)), "\(number)")
        }
    }

    @Test func aJobMovesAllValuesOnceItsTablesNameEnoughFiles() throws {
        let (table, blobs) = try flush(keys)
        var plan = BlobPlan()
        plan.bounds.tableFiles = 4
        plan.bounds.uses = 6
        plan.fileBytes = 2048
        let result = try merge(table, blobs, plan)
        let named = tables(result).flatMap(\.blobs).map(\.file)
        let old = named.filter { $0.kind == .flushBlob }
        #expect(old == Array(blobs.map(\.id).prefix(6)))
        #expect(result.dropped(.collected).count == 14)
        #expect(named.count <= 6 + result.outputs.count && result.outputs.count > 8)
        try checkKeys(try view(result, blobs))
    }

    @Test func decodersRefuseMoreCountersThanAnyTableHas() {
        func isRefused(_ count: Int) -> Bool {
            let uses = (0..<count).map { number in
                BlobUse(
                    file: TableID(
                        index: LogIndex(UInt64(number + 1)), kind: .flushBlob, ordinal: 0),
                    count: 1, bytes: 1)
            }
            var writer = ByteWriter(capacity: 16 * count)
            BlobUse.encode(uses, into: &writer)
            let decoded = try? writer.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return try BlobUse.decode(&reader)
            }
            return decoded == nil
        }
        #expect(!isRefused(BlobUse.tableMax))
        #expect(isRefused(BlobUse.tableMax + 1))
    }
}
