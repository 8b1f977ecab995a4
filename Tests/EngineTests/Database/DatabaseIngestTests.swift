// Bulk load through the whole engine: what is in, what is refused and how far it came. Against
// random operations and crashes it is in the oracle.
import Engine
import Testing

@Suite struct DatabaseIngestTests {
    private func pairs(_ numbers: some Sequence<Int>, _ value: String = "v") -> [(
        key: [UInt8], value: [UInt8]
    )] {
        numbers.map { (key: bytes("key\($0 + 10_000)"), value: bytes("\(value)\($0)")) }
    }

    private func options(segmentBytes: UInt64 = 64 << 20) -> DatabaseOptions {
        var options = DatabaseRig.smallOptions(segmentBytes: segmentBytes)
        options.retainLogBytes = 1 << 30
        return options
    }

    @Test(arguments: [64 << 20, 16 << 10] as [UInt64])
    func `What was ingested is read, flushed, replayed and told`(segmentBytes: UInt64) throws {
        let rig = try DatabaseRig(options(segmentBytes: segmentBytes))
        let all = pairs(0..<3_000)
        try rig.database.put(all[7].key, [1])
        let before = rig.database.snapshot()
        let start = rig.database.sequence
        #expect(try rig.database.ingest(all) == 3_000)
        #expect(rig.database.sequence == start + 3_000)
        func check() throws {
            let found = try rig.database.scan(.everything)
            #expect(found.map(\.key) == all.map(\.key))
            #expect(found.map(\.value.value) == all.map(\.value))
            #expect(try rig.database.get(all[7].key) == all[7].value)
            #expect(
                try rig.database.multiGet([all[9].key, bytes("key"), all[2_999].key])
                    == [all[9].value, nil, all[2_999].value])
        }
        try check()
        #expect(try before.scan(.everything).map(\.value) == [LiveValue(value: [1])])
        let changes = try rig.database.changes(after: start).take(maxBytes: 1 << 30)
        #expect(changes.map(\.sequence.rawValue) == (1...3_000).map { start.rawValue + $0 })
        #expect(
            changes.map(\.effect)
                == all.map { .put(key: $0.key, value: $0.value, expiry: nil) })
        try rig.close()
        try rig.open()
        try check()
        try rig.database.flush()
        try check()
        try rig.database.compactAll()
        try check()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 3_000)
    }

    @Test func `Deletes, merges and range deletes meet ingested puts by their sequence`() throws {
        let rig = try DatabaseRig(options())
        let all = pairs(0..<10)
        try rig.database.deleteRange(all[0].key, nil)
        try rig.database.merge(all[1].key, bytes("gone"), by: .append)
        try rig.database.ingest(all)
        let snapshot = rig.database.snapshot()
        try rig.database.merge(all[1].key, bytes("+"), by: .append)
        try rig.database.singleDelete(all[2].key)
        try rig.database.delete(all[3].key)
        try rig.database.deleteRange(all[5].key, all[8].key)
        try rig.database.ingest(pairs([3, 6], "w"))
        let expected = ["v0", "v1+", "w3", "v4", "w6", "v8", "v9"].map { bytes($0) }
        for round in 0..<3 {
            #expect(try rig.database.scan(.everything).map(\.value.value) == expected, "\(round)")
            #expect(
                try rig.database.scan(.everything, reverse: true).map(\.value.value)
                    == expected.reversed())
            if round == 0 { try rig.database.flush() }
            if round == 1 { try rig.database.compactAll() }
        }
        #expect(try snapshot.scan(.everything).map(\.value.value) == all.map(\.value))
    }

    private func conflict(_ transaction: Transaction) throws -> [UInt8]? {
        do {
            try transaction.commit()
            return nil
        } catch EngineError.conflict(let key) { return key }
    }

    @Test func `An ingest conflicts with transactions that read its keys`() throws {
        let rig = try DatabaseRig(options())
        let all = pairs(0..<10)
        let single = try rig.database.begin()
        #expect(try single.get(all[4].key) == nil)
        single.put(bytes("a"), [1])
        let range = try rig.database.begin()
        _ = try range.scan(KeySpan(start: all[8].key, end: nil))
        range.put(bytes("b"), [1])
        let other = try rig.database.begin()
        _ = try other.get(bytes("key"))
        other.put(bytes("c"), [1])
        try rig.database.ingest(all)
        for transaction in [single, range] {
            let key = try conflict(transaction)
            #expect(all.contains { $0.key == key })
        }
        try other.commit()
        #expect(try rig.database.get(bytes("c")) == [1])
    }

    @Test func `Long loads travel in groups, a long pair alone`() throws {
        let rig = try DatabaseRig(options())
        let first = rig.store.applied
        let kilobyte = [UInt8](repeating: 7, count: 1_000)
        var all = pairs(0..<2_500).map { (key: $0.key, value: kilobyte) }
        all[1_200].value = [UInt8](repeating: 8, count: 2 << 20)
        #expect(try rig.database.ingest(all) == 2_500)
        // 1,200 in two, the long one, 1,299 in two.
        #expect(rig.store.applied == first + 5)
        #expect(try rig.database.get(all[1_200].key) == all[1_200].value)
        #expect(try rig.database.get(all[1_201].key) == kilobyte)
        #expect(try rig.database.scan(.everything).count == 2_500)
    }

    @Test func `A mistake ends the load, and says how far it came`() throws {
        let rig = try DatabaseRig(options())
        let filler = [UInt8](repeating: 7, count: 100_000)
        let sound = pairs(0..<25).map { (key: $0.key, value: filler) }
        let long = [UInt8](repeating: 0x7a, count: Limits.keyBytes + 1)
        for (place, bad) in [sound[3].key, sound[24].key, [], long].enumerated() {
            do {
                try rig.database.ingest(sound + [(key: bad, value: [1])])
                Issue.record("\(place) was taken")
            } catch {
                switch error.cause {
                case .invalid, .limit: break
                default: Issue.record("\(error)")
                }
                // Two groups of ten are in, the rest of the third is not.
                #expect(error.count == 20 && error.lastKey == sound[19].key, "\(error)")
            }
            let found = try rig.database.scan(.everything).map(\.key)
            #expect(found == sound[..<20].map(\.key))
        }
        #expect(try rig.database.ingest([]) == 0)
        try rig.close()
        for source in [sound, []] {
            do {
                try rig.database.ingest(source)
                Issue.record("a closed database took a load")
            } catch {
                guard case .closed = error.cause else { throw error }
                #expect(error.count == 0 && error.lastKey == nil)
            }
        }
    }

    @Test func `A full disk ends the load, and it goes on behind the last key`() throws {
        let rig = try DatabaseRig(options())
        let filler = [UInt8](repeating: 7, count: 100_000)
        let all = pairs(0..<100).map { (key: $0.key, value: filler) }
        rig.memory.capacity = rig.memory.usedBytes + (5 << 20)
        var taken = 0
        do {
            try rig.database.ingest(all)
            Issue.record("ten megabytes went into five")
        } catch {
            guard case .file(let cause) = error.cause, cause.isNoSpace else { throw error }
            taken = error.count
            #expect((10...50).contains(taken) && error.lastKey == all[taken - 1].key)
        }
        #expect(try rig.database.scan(.everything).map(\.key) == all[..<taken].map(\.key))
        rig.memory.capacity = .max
        #expect(try rig.database.ingest(all[taken...]) == 100 - taken)
        #expect(try rig.database.scan(.everything).count == 100)
    }
}
