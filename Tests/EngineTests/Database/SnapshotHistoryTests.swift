// Reads as of an earlier sequence: right within the window, refused beyond what is still there.
import Engine
import Testing

@Suite struct SnapshotHistoryTests {
    private func rig(window: UInt64) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions()
        options.store.historyWindowMilliseconds = window
        return try DatabaseRig(options)
    }

    /// One value a millisecond; the sequence after each.
    private func write(_ count: Int, to rig: DatabaseRig) throws -> [SequenceNumber] {
        var sequences: [SequenceNumber] = []
        for number in 0..<count {
            rig.clock.advance(1)
            try rig.database.put(bytes("key"), [UInt8(number)])
            sequences.append(rig.database.sequence)
        }
        return sequences
    }

    @Test func `Within the window every state is read as it was, also after a restart`() throws {
        let rig = try rig(window: 50)
        let sequences = try write(80, to: rig)
        try rig.database.compactAll()
        for round in 0..<2 {
            for number in 30..<80 {
                let snapshot = try rig.database.snapshot(asOf: sequences[number])
                #expect(try snapshot.get(bytes("key")) == [UInt8(number)], "\(round)")
                #expect(try snapshot.scan(.everything).map(\.value.value) == [[UInt8(number)]])
            }
            try rig.close()
            try rig.open()
        }
    }

    @Test func `What is garbage is refused with the oldest sequence that is not`() throws {
        let rig = try rig(window: 20)
        let sequences = try write(60, to: rig)
        try rig.database.compactAll()
        do {
            _ = try rig.database.snapshot(asOf: sequences[5])
            Issue.record("a state that is garbage was read")
        } catch EngineError.historyGone(let oldest) {
            #expect(oldest > sequences[5] && oldest <= sequences[40])
            #expect(try rig.database.snapshot(asOf: oldest).get(bytes("key")) != nil)
        }
        try rig.close()
        try rig.open()
        #expect(throws: EngineError.self) { try rig.database.snapshot(asOf: sequences[5]) }
    }

    @Test func `Versions are garbage once the window has passed`() throws {
        let rig = try rig(window: 1_000)
        _ = try write(50, to: rig)
        try rig.database.compactAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 50)
        rig.clock.advance(1_001)
        try rig.database.put(bytes("key"), [1])
        try rig.database.compactAll()
        // Samples are sparse: a few more than the two that must stay.
        #expect((2...8).contains(rig.database.tables().reduce(0) { $0 + $1.entryCount }))
    }

    @Test func `Versions are garbage once the window has passed, without another write`() throws {
        let rig = try rig(window: 1_000)
        _ = try write(50, to: rig)
        try rig.database.compactAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 50)
        rig.clock.advance(1_001)
        try rig.database.compactAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 1)
        #expect(try rig.database.get(bytes("key")) == [49])
    }

    @Test func `A sequence that is not written yet is refused`() throws {
        let rig = try rig(window: 0)
        _ = try write(3, to: rig)
        let next = rig.database.sequence + 1
        #expect(throws: EngineError.self) { try rig.database.snapshot(asOf: next) }
        #expect(try rig.database.snapshot(asOf: rig.database.sequence).get(bytes("key")) == [2])
    }
}
