// A database on a disk that fills up: refusals come before the disk is full, and what frees space
// still works.
import Engine
import Testing

@Suite struct DatabaseSpaceTests {
    private static let reserve = DatabaseRig.group + "/reserve"
    /// The log takes up to 1 MiB ahead of what is written.
    private static let floor: UInt64 = 1280 << 10

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 4000)
    }

    private func makeRig(capacity: UInt64 = 5 << 20) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions(segmentBytes: 64 << 10)
        options.settings.blockBytes = 4096
        options.store.lowDiskBytes = DatabaseSpaceTests.floor
        // The size of what is written is what the test counts by.
        options.store.compression = .none
        let memory = MemoryFileSystem(seed: 1)
        memory.capacity = capacity
        return try DatabaseRig(options, memory: memory)
    }

    private func error(of body: () throws -> Void) -> EngineError? {
        do { try body() } catch { return error as? EngineError }
        return nil
    }

    private func isLow(_ error: EngineError?) -> Bool {
        if case .lowSpace? = error { return true }
        return false
    }

    /// Puts until one is refused; the number of those that were taken.
    private func fill(_ rig: DatabaseRig) throws -> (count: Int, refusal: EngineError?) {
        for number in 0..<4_000 {
            if let refusal = error(of: { try rig.database.put(key(number), value(number)) }) {
                return (number, refusal)
            }
            // As time goes by.
            rig.clock.advance(100)
            rig.jobs.runOne()
        }
        return (4_000, nil)
    }

    @Test func `Writes are refused while there is room for compaction`() throws {
        let rig = try makeRig()
        let (count, refusal) = try fill(rig)
        guard case .lowSpace(let path, let free, let bound)? = refusal else {
            Issue.record("\(count) puts, then \(String(describing: refusal))")
            return
        }
        #expect(path == DatabaseRig.group && free < bound && bound >= DatabaseSpaceTests.floor)
        #expect(free > DatabaseSpaceTests.floor / 4)
        #expect(count > 100)
        #expect(refusal?.isNoSpace == true)
        let text = "\(refusal.map { "\($0)" } ?? "")"
        #expect(text.contains("delete data") && text.contains(path))
        // Everything that was taken is there; flushes and compactions find room.
        try rig.database.flush()
        try rig.database.compactAll()
        for number in 0..<count { #expect(try rig.database.get(key(number)) == value(number)) }
        #expect(!rig.notes.contains("No space"))
        #expect(rig.notes.contains("space is low"))
        #expect(isLow(error { try rig.database.put(key(0), value(1)) }))
        #expect(isLow(error { try rig.database.merge([1], [1], by: .append) }))
        var ingested: EngineError?
        do throws(IngestError) { try rig.database.ingest([([2], [1])]) } catch {
            ingested = error.cause
        }
        #expect(isLow(ingested))
        #expect(try rig.database.get(key(0)) == value(0))
    }

    @Test func `Deletes are taken on a low disk, and make it a roomy one`() throws {
        let rig = try makeRig()
        let (count, refusal) = try fill(rig)
        #expect(isLow(refusal))
        try rig.database.delete(key(0))
        try rig.database.deleteRange(key(1), key(count - 1))
        // In one batch with a put a delete is refused.
        var batch = WriteBatch()
        batch.delete(key(count - 1))
        batch.put([1], [1])
        #expect(isLow(error { try rig.database.write(batch) }))
        try rig.database.compactAll()
        #expect(rig.memory.usedBytes < rig.memory.capacity / 2)
        try rig.database.put(key(1), value(7))
        #expect(rig.notes.contains("there is space again"))
        try rig.close()
        try rig.open()
        #expect(try rig.database.scan(.everything).map(\.key) == [key(1), key(count - 1)])
    }

    @Test func `A disk that somebody else fills and empties is noticed`() throws {
        let rig = try makeRig(capacity: 64 << 20)
        try rig.database.put(key(1), value(1))
        rig.memory.capacity = rig.memory.usedBytes + 1000
        // Within the second nobody looks.
        rig.clock.advance(999)
        try rig.database.put([1], [1])
        rig.clock.advance(1)
        #expect(isLow(error { try rig.database.put([1], [2]) }))
        #expect(isLow(error { try rig.database.delete([1]) }))
        rig.memory.capacity = 64 << 20
        try rig.database.put([1], [2])
        #expect(try rig.database.get([1]) == [2])
    }

    @Test func `The reserve is made when there is room and given up when there is not`() throws {
        let rig = try makeRig(capacity: 16 << 20)
        #expect(!rig.memory.exists(DatabaseSpaceTests.reserve))
        let before = try fillOneSegment(rig)
        #expect(rig.memory.exists(DatabaseSpaceTests.reserve))
        let size = try rig.memory.open(DatabaseSpaceTests.reserve, .read).size()
        #expect(size == DatabaseSpaceTests.floor / 4)
        try rig.close()
        try rig.open()
        #expect(rig.memory.exists(DatabaseSpaceTests.reserve))
        try rig.database.put([1], [1])
        rig.memory.capacity = rig.memory.usedBytes + 1000
        rig.clock.advance(1_000)
        #expect(isLow(error { try rig.database.put([1], [1]) }))
        #expect(!rig.memory.exists(DatabaseSpaceTests.reserve))
        // Its blocks are room for a flush.
        let free = try rig.memory.freeBytes("")
        #expect(free > DatabaseSpaceTests.floor / 4)
        rig.memory.capacity = 16 << 20
        try rig.database.put([1], [1])
        rig.jobs.runAll()
        rig.clock.advance(1_000)
        for _ in 0..<2 { try rig.database.put([1], [1]) }
        rig.jobs.runAll()
        #expect(rig.memory.exists(DatabaseSpaceTests.reserve))
        for number in 0..<before {
            #expect(try rig.database.get(key(number)) == value(number))
        }
    }

    /// Nothing was written for a while, and the first write needs more than the log has allocated
    /// ahead. Within the second nobody has looked yet: then the append finds out.
    @Test(arguments: [0, 3_600_000] as [UInt64])
    func `A disk that is full when an idle database is written gets the reserve back`(
        idle: UInt64
    ) throws {
        let rig = try makeRig(capacity: 16 << 20)
        _ = try fillOneSegment(rig)
        try #require(rig.memory.exists(DatabaseSpaceTests.reserve))
        rig.clock.advance(idle)
        rig.memory.capacity = rig.memory.usedBytes
        var batch = WriteBatch()
        for number in 0..<2_000 {
            batch.delete(KeyValueModel.key(number) + [UInt8](repeating: 1, count: 100))
        }
        batch.delete(key(0))
        try rig.database.write(batch)
        #expect(!rig.memory.exists(DatabaseSpaceTests.reserve))
        #expect(try rig.database.get(key(0)) == nil)
        #expect(isLow(error { try rig.database.put([1], [1]) }))
        rig.memory.capacity = 16 << 20
        try rig.database.put([1], [1])
        try rig.close()
        try rig.open()
        #expect(try rig.database.get(key(0)) == nil)
        #expect(try rig.database.get([1]) == [1])
    }

    @Test func `An append without space makes space low, with no reserve to give up`() throws {
        let rig = try makeRig(capacity: 16 << 20)
        try rig.database.put(key(0), value(0))
        rig.memory.capacity = rig.memory.usedBytes
        let large = [UInt8](repeating: 1, count: 3 << 20)
        #expect(error { try rig.database.put(key(1), large) }?.isNoSpace == true)
        #expect(isLow(error { try rig.database.put([1], [1]) }))
        #expect(rig.notes.contains("space is low"))
        #expect(try rig.database.get(key(0)) == value(0))
    }

    /// Returns how many puts that took.
    private func fillOneSegment(_ rig: DatabaseRig) throws -> Int {
        var number = 0
        while rig.store.flushedPosition.index == .zero {
            try rig.database.put(key(number), value(number))
            number += 1
            rig.jobs.runAll()
        }
        rig.clock.advance(1_000)
        try rig.database.put(key(0), value(0))
        rig.jobs.runAll()
        return number
    }

    @Test func `A reserve that is not wanted any more goes at open`() throws {
        let rig = try makeRig(capacity: 16 << 20)
        _ = try fillOneSegment(rig)
        try rig.close()
        rig.options.store.lowDiskBytes = 0
        _ = try rig.memory.open(DatabaseSpaceTests.reserve + ".new", .create)
        try rig.open()
        #expect(!rig.memory.exists(DatabaseSpaceTests.reserve))
        #expect(!rig.memory.exists(DatabaseSpaceTests.reserve + ".new"))
    }

    @Test func `A small disk is written until it is full, unless a floor is chosen`() throws {
        let memory = MemoryFileSystem(seed: 1)
        memory.capacity = 3 << 20
        let rig = try DatabaseRig(
            DatabaseRig.smallOptions(segmentBytes: 64 << 20), memory: memory)
        var number = 0
        var failure: EngineError?
        while failure == nil, number < 2_000 {
            failure = error { try rig.database.put(key(number), value(number)) }
            number += 1
            rig.clock.advance(1_000)
        }
        #expect(!isLow(failure) && failure != nil, "\(String(describing: failure))")
    }
}
