// The filter policy through a whole database: what tables get at which level, and prefix scans that
// filters shorten and never falsify.

import Engine
import Testing

@Suite struct DatabaseFilterTests {
    private func key(_ tenant: Int, _ number: Int) -> [UInt8] { bytes("tenant\(tenant)/\(number)") }

    private func rig(_ change: (inout FilterPolicy) -> Void) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions()
        change(&options.settings.filter)
        return try DatabaseRig(seed: 4, options)
    }

    private func leafLists(_ rig: DatabaseRig) throws -> [(level: UInt8, leaves: LeafList)] {
        let (view, _) = rig.store.pin()
        return try view.version.levels.joined().map { table in
            (table.record.level, try table.reader(io: .blocking).leafList)
        }
    }

    @Test func `Each level gets what the policy says`() throws {
        let rig = try rig {
            $0.levels = [LevelFilterBudget(level: 1, budget: .bitsPerKey(0))]
            $0.expectsHits = true
        }
        for number in 0..<600 { try rig.database.put(key(number % 7, number), [1, 2, 3]) }
        try rig.database.flush()
        let early = try leafLists(rig)
        #expect(early.contains { $0.level == 0 })
        for (level, leaves) in early {
            #expect(level > 1 || (leaves.filter != nil) == (level == 0))
        }
        try rig.database.compactAll()
        let merged = try leafLists(rig)
        #expect(!merged.isEmpty && merged.allSatisfy { $0.level > 0 })
        // Nothing is below them.
        #expect(merged.allSatisfy { $0.leaves.filter == nil && $0.leaves.filterIndex == nil })
        for number in 0..<600 {
            #expect(try rig.database.get(key(number % 7, number)) == [1, 2, 3])
        }
    }

    @Test func `Without expected hits the last level has a filter, in partitions if it is large`()
        throws
    {
        let rig = try rig { $0.partitionAbove = 64 }
        for number in 0..<600 { try rig.database.put(key(number % 7, number), [1]) }
        try rig.database.compactAll()
        let merged = try leafLists(rig)
        #expect(merged.contains { $0.leaves.filterPartitions.count > 1 })
        for number in 0..<600 {
            #expect(try rig.database.get(key(number % 7, number)) == [1])
            #expect(try rig.database.get(key(number % 7, number + 600)) == nil)
        }
    }

    @Test(arguments: [
        PrefixExtractor.none, .fixed(length: 9), .delimiter(byte: 0x2f, occurrence: 1),
    ])
    func `Prefix scans see what is there`(prefix: PrefixExtractor) throws {
        let rig = try rig { $0.prefix = prefix }
        var random = SeededRandom(seed: 8)
        var model: [[UInt8]: [UInt8]] = [:]
        for round in 0..<1200 {
            let key = key(random.below(90), random.below(20))
            if random.oneIn(6) {
                model[key] = nil
                try rig.database.delete(key)
            } else {
                let value = bytes("value \(round)")
                model[key] = value
                try rig.database.put(key, value)
            }
            if random.oneIn(40) { rig.runJobs(3) }
            guard round % 40 == 39 else { continue }
            for _ in 0..<10 { try check(rig, bytes("tenant\(random.below(110))/"), model) }
            try check(rig, bytes("tenant\(random.below(10))"), model)
        }
        try rig.database.compactAll()
        for tenant in 0..<110 { try check(rig, bytes("tenant\(tenant)/"), model) }
        let absent = (100..<1000).count {
            (try? rig.database.mayContainPrefix(bytes("tenant\($0)/"))) ?? true
        }
        if prefix == .none { #expect(absent > 0) } else { #expect(absent < 30) }
    }

    private func check(_ rig: DatabaseRig, _ prefix: [UInt8], _ model: [[UInt8]: [UInt8]]) throws {
        let wanted = model.keys.filter { $0.starts(with: prefix) }.sorted { $0.isKeyBefore($1) }
        for reverse in [false, true] {
            let found = try rig.database.scan(KeySpan.prefix(prefix), reverse: reverse)
            #expect(found.map(\.key) == (reverse ? wanted.reversed() : wanted))
            #expect(found.allSatisfy { model[$0.key] == $0.value.value })
        }
        if !wanted.isEmpty { #expect(try rig.database.mayContainPrefix(prefix)) }
    }

    @Test func `Prefixes still in memory count`() throws {
        let rig = try rig { $0.prefix = .fixed(length: 3) }
        #expect(try !rig.database.mayContainPrefix(bytes("abc")))
        try rig.database.put(bytes("abcd"), [])
        #expect(try rig.database.mayContainPrefix(bytes("abc")))
        #expect(try rig.database.mayContainPrefix([]))
        #expect(try !rig.database.mayContainPrefix(bytes("abd")))
        #expect(try !rig.database.mayContainPrefix(bytes("abb")))
    }
}
