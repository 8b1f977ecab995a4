// Optimistic transactions: what they see, when they conflict, and that nothing of a failed one is
// left. Against random interleavings they are in the oracle.
import Engine
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite struct TransactionTests {
    private let a = bytes("a")
    private let b = bytes("b")
    private let c = bytes("c")

    private func conflict(_ transaction: Transaction) throws -> [UInt8]? {
        do {
            try transaction.commit()
            return nil
        } catch EngineError.conflict(let key) { return key }
    }

    @Test func `A transaction reads its own writes over its snapshot`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(a, [1])
        try rig.database.put(b, [2])
        try rig.database.merge(c, MergeReference.bytes(5), by: .int64Add)
        let transaction = try rig.database.begin()
        transaction.put(a, [9])
        transaction.delete(b)
        try transaction.merge(c, MergeReference.bytes(7), by: .int64Add)
        transaction.put(bytes("aa"), [3])
        try rig.database.put(bytes("z"), [4])
        #expect(try transaction.get(a) == [9])
        #expect(try transaction.get(b) == nil)
        #expect(try transaction.get(c) == MergeReference.bytes(12))
        #expect(try transaction.get(bytes("z")) == nil)
        let pairs = try transaction.scan(.everything)
        #expect(pairs.map(\.key) == [a, bytes("aa"), c])
        #expect(try transaction.scan(.everything, reverse: true).map(\.key) == [c, bytes("aa"), a])
        #expect(try rig.database.get(a) == [1])
    }

    @Test func `Prefix deletes and single deletes are seen and committed`() throws {
        let rig = try DatabaseRig()
        for key in ["a1", "a2", "b"] { try rig.database.put(bytes(key), [1]) }
        let transaction = try rig.database.begin()
        transaction.deletePrefix(a)
        transaction.singleDelete(b)
        transaction.put(bytes("a3"), [2])
        #expect(try transaction.scan(.everything).map(\.key) == [bytes("a3")])
        #expect(try transaction.get(b) == nil)
        try transaction.commit()
        #expect(try rig.database.scan(.everything).map(\.key) == [bytes("a3")])
    }

    @Test func `Range deletes, puts and merges follow each other in order`() throws {
        let rig = try DatabaseRig()
        for key in [a, b, c] { try rig.database.put(key, [1]) }
        let transaction = try rig.database.begin()
        try transaction.merge(b, [7], by: .append)
        transaction.deleteRange(a, c)
        transaction.put(a, [2])
        try transaction.merge(b, [8], by: .append)
        #expect(try transaction.get(a) == [2])
        #expect(try transaction.get(b) == [8])
        #expect(try transaction.get(c) == [1])
        try transaction.commit()
        #expect(try rig.database.get(a) == [2])
        #expect(try rig.database.get(b) == [8])
        #expect(try rig.database.get(c) == [1])
    }

    @Test func `A key that was read and then written by somebody else conflicts`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(a, [1])
        let transaction = try rig.database.begin()
        #expect(try transaction.get(a) == [1])
        transaction.put(b, [1])
        try rig.database.put(a, [1])
        #expect(try conflict(transaction) == a)
        #expect(try rig.database.get(b) == nil)
        #expect(throws: EngineError.self) { try transaction.commit() }
    }

    @Test func `What was read as absent conflicts when it appears, in a range too`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(c, [1])
        let single = try rig.database.begin()
        #expect(try single.get(b) == nil)
        single.put(c, [2])
        let range = try rig.database.begin()
        #expect(try range.scan(KeySpan(start: a, end: c)).isEmpty)
        range.put(c, [3])
        let elsewhere = try rig.database.begin()
        #expect(try elsewhere.scan(KeySpan(start: a, end: c), limit: 1).isEmpty)
        #expect(try elsewhere.get(c) == [1])
        elsewhere.put(a, [3])
        try rig.database.put(b, [1])
        #expect(try conflict(single) == b)
        #expect(try conflict(range) == b)
        #expect(try conflict(elsewhere) == b)
    }

    @Test func `A scan that ended early conflicts only with what it looked at`() throws {
        let rig = try DatabaseRig()
        for key in [a, b, c] { try rig.database.put(key, [1]) }
        let forward = try rig.database.begin()
        #expect(try forward.scan(.everything, limit: 2).map(\.key) == [a, b])
        forward.put(bytes("x"), [1])
        let reverse = try rig.database.begin()
        #expect(try reverse.scan(.everything, reverse: true, limit: 2).map(\.key) == [c, b])
        reverse.put(bytes("y"), [1])
        try rig.database.delete(c)
        #expect(try conflict(forward) == nil)
        #expect(try conflict(reverse) == c)
    }

    @Test func `Blind writes do not conflict`() throws {
        let rig = try DatabaseRig()
        let transaction = try rig.database.begin()
        transaction.put(a, [2])
        try transaction.merge(b, MergeReference.bytes(1), by: .int64Add)
        try rig.database.put(a, [1])
        try rig.database.merge(b, MergeReference.bytes(1), by: .int64Add)
        try transaction.commit()
        #expect(try rig.database.get(a) == [2])
        #expect(try rig.database.get(b) == MergeReference.bytes(2))
    }

    @Test(arguments: [true, false])
    func `A delete is noticed after every trace of it was compacted away`(single: Bool) throws {
        let rig = try DatabaseRig()
        try rig.database.put(a, [1])
        try rig.database.flush()
        let transaction = try rig.database.begin()
        #expect(try transaction.get(a) == [1])
        transaction.put(b, [1])
        if single { try rig.database.singleDelete(a) } else { try rig.database.delete(a) }
        try rig.database.compactAll()
        #expect(try conflict(transaction) == a)
        // It has ended, and holds nothing back any more.
        try rig.database.put(a, [1])
        try rig.database.compactAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 1)
    }

    @Test func `A range delete conflicts with a key in it`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(b, [1])
        let transaction = try rig.database.begin()
        #expect(try transaction.get(b) == [1])
        transaction.put(c, [1])
        try rig.database.deleteRange(a, c)
        try rig.database.flush()
        #expect(try conflict(transaction) == b)
    }

    @Test func `Transact runs again until it fits, and gives up when told to`() throws {
        let rig = try DatabaseRig()
        var runs = 0
        try rig.database.transact { transaction in
            runs += 1
            let old = try transaction.get(a) ?? [0]
            if runs < 4 { try rig.database.put(a, [UInt8(runs) * 10]) }
            transaction.put(a, [old[0] + 1])
        }
        #expect(runs == 4)
        #expect(try rig.database.get(a) == [31])
        #expect(throws: EngineError.self) {
            try rig.database.transact(attempts: 2) { transaction in
                _ = try transaction.get(a)
                try rig.database.put(a, [1])
                transaction.put(b, [1])
            }
        }
        #expect(try rig.database.get(b) == nil)
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func `Transfers between accounts by many threads keep the sum`(sync: DatabaseOptions.Sync)
        throws
    {
        let accounts = 8
        let transfers = scaled("MARTLET_TRANSFERS", full: 5_000, usual: 100)
        let rig = try ThreadedRig(DatabaseRig.smallOptions(segmentBytes: 16 << 10, sync: sync))
        let database = rig.database
        for account in 0..<accounts { try database.put([UInt8(account)], [100]) }
        let failures = Notes()
        let threads = (0..<4).map { number in
            startThread {
                var random = SeededRandom(seed: UInt64(number))
                for _ in 0..<transfers {
                    let (from, to) = (random.below(accounts), random.below(accounts))
                    do {
                        try database.transact(attempts: .max) { transaction in
                            let source = try transaction.get([UInt8(from)]) ?? []
                            let target = try transaction.get([UInt8(to)]) ?? []
                            guard from != to, source[0] > 0, target[0] < 255 else { return }
                            transaction.put([UInt8(from)], [source[0] - 1])
                            transaction.put([UInt8(to)], [target[0] + 1])
                        }
                    } catch { failures.add("\(error)") }
                }
            }
        }
        for thread in threads { pthread_join(thread, nil) }
        #expect(failures.all.isEmpty)
        let balances = try database.scan(.everything).map { Int($0.value.value[0]) }
        #expect(balances.count == accounts && balances.reduce(0, +) == 100 * accounts)
        try rig.close()
    }
}
