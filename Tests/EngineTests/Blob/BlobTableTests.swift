// Blob files as flushes and jobs write them: what is separated, what moves, what is read through a
// reference, and that all of it is a function of the entries.
import Engine
import Testing

@Suite struct BlobTableTests {
    private static let clock: UInt64 = 1_000

    private func entry(_ key: Int, _ sequence: UInt64, _ kind: ValueKind, _ value: [UInt8] = [])
        -> ModelEntry
    {
        ModelEntry(Array("key\(100 + key)".utf8), sequence, kind, value)
    }

    private func value(_ key: Int, _ length: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(key), count: length)
    }

    private func expiring(_ expiry: UInt64, _ value: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: expiry.littleEndian) { [UInt8]($0) } + value
    }

    private func bed(_ codec: Compression = .lz4, fileBytes: UInt64 = 4096) throws -> TableBed {
        let bed = try TableBed(codec: codec)
        bed.blobs.threshold = 100
        bed.blobs.fileBytes = fileBytes
        return bed
    }

    /// Short and long values, an expiring long one, a delete and an operand.
    private var entries: [ModelEntry] {
        var entries = (0..<60).map { entry($0, UInt64($0 + 1), .put, value($0, 60 + $0 * 4)) }
        entries.append(entry(60, 61, .expiringPut, expiring(2_000, value(60, 300))))
        entries.append(entry(61, 62, .expiringPut, expiring(500, value(61, 300))))
        entries.append(entry(62, 63, .delete))
        entries.append(entry(63, 64, .merge, MergeOperand.stored(.append, value(63, 400))))
        return entries
    }

    private func split(_ handles: [TableHandle]) -> (
        tables: [TableHandle], blobs: [TableHandle]
    ) {
        (handles.filter { !$0.record.isBlob }, handles.filter(\.record.isBlob))
    }

    private func view(_ handles: [TableHandle]) throws -> ReadView {
        let (tables, blobs) = split(handles)
        return ReadView(
            memtables: [], standIns: [], version: try Version(tables), blobs: BlobFiles(blobs))
    }

    private func checkReads(_ view: ReadView, without gone: Set<Int> = []) throws {
        for number in 0..<64 {
            let found = try view.get(
                Array("key\(100 + number)".utf8), at: .max, now: BlobTableTests.clock,
                io: .blocking)
            let expected: LiveValue?
            switch number {
            case _ where gone.contains(number): expected = nil
            case 0..<60: expected = LiveValue(value: value(number, 60 + number * 4))
            case 60: expected = LiveValue(value: value(60, 300), expiry: 2_000)
            case 63: expected = LiveValue(value: value(63, 400))
            default: expected = nil
            }
            #expect(found == expected, "\(number)")
        }
        for isReverse in [false, true] {
            let pairs = try view.scan(
                .everything, reverse: isReverse, at: .max, now: BlobTableTests.clock)
            #expect(pairs.count == 62 - gone.count)
            for (key, value) in pairs {
                let single = try view.get(
                    key, at: .max, now: BlobTableTests.clock, io: .blocking)
                #expect(value == single)
            }
        }
    }

    @Test func aFlushSeparatesLongValues() throws {
        let bed = try bed()
        let handles = try bed.flush(TableBed.memtable(entries), at: 64)
        let (tables, blobs) = split(handles)
        #expect(tables.count == 1 && blobs.count > 2)
        #expect(blobs.map(\.id.description).first == "0000000000000040-b0")
        // From a length of 100 on: 50 puts, and those that expire.
        let uses = tables[0].record.blobs
        #expect(uses.map(\.file) == blobs.map(\.id))
        #expect(uses.reduce(0) { $0 + $1.count } == 52)
        for (use, blob) in zip(uses, blobs) {
            #expect(blob.record.blobs == [use] && blob.record.entryCount == use.count)
            #expect(blob.record.canonicalBytes < 4096 + 2048)
        }
        #expect(tables[0].record.entryCount == 64 && tables[0].record.canonicalBytes < 12 << 10)
        try checkReads(try view(handles))
    }

    @Test func theBytesAreTheSameUnderEveryCodec() throws {
        var records: [[TableRecord]] = []
        for codec in [Compression.none, .lz4, .zstdDictionary(level: 3)] {
            let bed = try bed(codec)
            let handles = try bed.flush(TableBed.memtable(entries), at: 64)
            let (tables, blobs) = split(handles)
            var spec = bed.spec(tables, to: 1)
            spec.collected = [blobs[0].id, blobs[2].id]
            spec.blobFileBytes = 2048
            let result = try bed.compact(tables, spec, at: 70, blobs: blobs)
            #expect(result.isBalanced)
            records.append(handles.map(\.record) + result.outputs.map(\.record))
        }
        #expect(records[0] == records[1] && records[1] == records[2])
    }

    @Test func compactionLeavesValuesAloneThatItDoesNotCollect() throws {
        let bed = try bed()
        let (tables, blobs) = split(try bed.flush(TableBed.memtable(entries), at: 64))
        // Nobody could read a value.
        for blob in blobs { try bed.fileSystem.unlink(bed.path(blob)) }
        let compacted = try bed.compacted(tables, bed.spec(tables, to: 1, horizon: 100), at: 70)
        #expect(compacted.map(\.record.blobs) == [tables[0].record.blobs])
    }

    @Test func collectedValuesMoveToFilesOfTheJob() throws {
        let bed = try bed()
        let (tables, blobs) = split(try bed.flush(TableBed.memtable(entries), at: 64))
        let newer = try bed.flush(
            TableBed.memtable([entry(20, 70, .delete), entry(21, 71, .put, value(21, 144))]),
            at: 71)
        let inputs = tables + split(newer).tables
        var spec = bed.spec(
            inputs, to: 1, horizon: 100, clock: BlobTableTests.clock, bottommost: true)
        spec.collected = blobs.prefix(2).map(\.id)
        let result = try bed.compact(
            inputs, spec, at: 80, blobs: blobs + split(newer).blobs)
        #expect(result.isBalanced)
        #expect(result.dropped(.collected).count > 8)
        let outputs = split(result.outputs.map { bed.handle($0) })
        #expect(outputs.blobs.map(\.id.description) == ["0000000000000050-g0"])
        let files = Set(outputs.tables.flatMap { $0.record.blobs.map(\.file) })
        #expect(files.isDisjoint(with: spec.collected))
        #expect(files.contains(outputs.blobs[0].id))
        let kept = blobs.dropFirst(2) + split(newer).blobs
        try checkReads(
            try view(outputs.tables + outputs.blobs + kept), without: [20])

        // The records are those that the log takes.
        let record = CompactedRecord(
            job: LogIndex(80), tables: result.outputs.map(\.record),
            leader: FrontierRoot(frontier: .zero, root: .zero))
        #expect(
            try record.encoded().withUnsafeBytes { try CompactedRecord(decoding: $0) } == record)
    }

    @Test func foldsAndFiltersSeeTheValue() throws {
        let bed = try bed()
        bed.filters = [TouchingFilter()]
        let (tables, blobs) = split(try bed.flush(TableBed.memtable(entries), at: 64))
        let appended = try bed.flush(
            TableBed.memtable([
                entry(30, 70, .merge, MergeOperand.stored(.append, [1, 2])),
                entry(60, 71, .merge, MergeOperand.stored(.append, [3])),
            ]), at: 71)
        func read(_ handles: [TableHandle], _ number: Int) throws -> [UInt8]? {
            try view(handles).get(
                Array("key\(100 + number)".utf8), at: .max, now: BlobTableTests.clock,
                io: .blocking)?.value
        }
        let before = try read(tables + appended + blobs, 30)
        let inputs = appended + tables
        let plain = try bed.compact(
            inputs, bed.spec(inputs, to: 1, horizon: 100), at: 80, blobs: blobs)
        #expect(plain.isBalanced)
        let merged = plain.outputs.map { bed.handle($0) }
        #expect(try read(merged + blobs, 30) == before)
        #expect(before?.starts(with: value(30, 180)) ?? false && before?.last == 2)

        var functions = TestMerge.names
        functions.compactionFilter = TouchingFilter.wanted
        let filtered = try bed.compact(
            tables, bed.spec(tables, to: 1, horizon: 100, functions: functions), at: 81,
            blobs: blobs)
        #expect(filtered.isBalanced && filtered.dropped(.filtered).count > 0)
        // The same as on values that stand beside their keys.
        bed.blobs = .off
        let inline = try bed.flush(TableBed.memtable(entries), at: 65)
        let expected = try bed.compacted(
            inline, bed.spec(inline, to: 1, horizon: 100, functions: functions), at: 82)
        let outputs = filtered.outputs.map { bed.handle($0) }
        for number in 0..<64 {
            #expect(try read(outputs + blobs, number) == read(expected, number), "\(number)")
        }
    }

    @Test func aSalvageThatLosesNothingIsTheOriginal() throws {
        let bed = try bed()
        for handle in try bed.flush(TableBed.memtable(entries), at: 64) {
            let output = "salvaged-\(handle.id)"
            let report = try TableSalvage.run(
                bed.fileSystem, from: bed.path(handle), to: output)
            #expect(report.record.digest == handle.record.digest)
            #expect(report.record.blobs == handle.record.blobs && report.losses.isEmpty)
        }
    }

    @Test func aReferenceThatLeadsElsewhereIsAnError() throws {
        let bed = try bed()
        let (tables, blobs) = split(try bed.flush(TableBed.memtable(entries), at: 64))
        let files = BlobFiles(blobs)
        let cursor = try tables[0].makeCursor(io: .blocking)
        try cursor.seekToFirst()
        while cursor.isValid, cursor.trailer.kind != .blobReference { try cursor.next() }
        let good = try BlobReference(stored: cursor.value)
        #expect(try files.value(good, io: .blocking).count == 100)
        let changes: [(inout BlobReference) -> Void] = [
            { $0.block = BlockOrdinal(1 << 20) }, { $0.block = BlockOrdinal(1) },
            { $0.place = 1 << 20 }, { $0.place += 1 }, { $0.length += 1 }, { $0.checksum ^= 1 },
            { $0.expiry = 7 }, { $0.file = blobs[1].id },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            #expect(throws: EngineError.self) { try files.value(bad, io: .blocking) }
        }
        var absent = good
        absent.file.index = LogIndex(9)
        let error = #expect(throws: EngineError.self) { try files.value(absent, io: .blocking) }
        guard case .tableLost(absent.file, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(throws: EngineError.self) {
            try BlobFiles([bed.reopened(blobs[0])]).value(good, io: .cacheOnly)
        }
    }

    @Test func rotIsNeverServed() throws {
        let bed = try bed(.none)
        let handles = try bed.flush(TableBed.memtable(entries), at: 64)
        let blob = try #require(split(handles).blobs.first)
        let path = bed.path(blob)
        let size = try bed.fileSystem.readAll(path, limit: 1 << 20).count
        for offset in stride(from: 128, to: size, by: 101) {
            bed.fileSystem.flip(path, UInt64(offset), mask: 0x04)
            let view = try view(handles.map { bed.reopened($0) })
            for number in 0..<60 {
                do {
                    let found = try view.get(
                        Array("key\(100 + number)".utf8), at: .max, now: 0, io: .blocking)
                    #expect(found?.value == value(number, 60 + number * 4))
                } catch {
                    #expect(number >= 10, "\(error)")
                }
            }
            bed.fileSystem.flip(path, UInt64(offset), mask: 0x04)
        }
    }
}
