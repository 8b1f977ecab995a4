// An encrypted log and hard state: nothing of them is readable, and a wrong key, a tampered entry
// and a rotten one are told apart.
import Engine
import Testing

@Suite struct LogEncryptionTests {
    private func ring(_ epochs: UInt32..., seed: UInt64 = 1) throws -> KeyRing {
        var keys: [UInt32: EncryptionKey] = [:]
        for epoch in epochs where epoch > 0 { keys[epoch] = try testKey(UInt8(epoch)) }
        return KeyRing(
            try EncryptionKeys(current: epochs[0], keys: keys), random: seededNumbers(seed))
    }

    private func files(_ rig: LogRig) throws -> [String: [UInt8]] {
        var all = [LogRig.statePath: try rig.raw(LogRig.statePath)]
        for name in try rig.fileSystem.list(LogRig.directory) {
            all[name] = try rig.raw(LogRig.directory + "/" + name)
        }
        return all
    }

    /// Where frames stand, by a walk over their lengths from `start`: each at the next multiple of
    /// `alignment`, which is 1 within a group that was written together.
    private func frames(_ bytes: [UInt8], from start: Int = 4608, alignment: Int = 512) -> [Int] {
        var found: [Int] = []
        var at = start
        while at + 48 <= bytes.count {
            let length = bytes[(at + 8)..<(at + 12)].reversed().reduce(0) { $0 << 8 | Int($1) }
            guard length >= 84, bytes[at + 12] == 1 else { break }
            found.append(at)
            at = (at + 48 + length + alignment - 1) / alignment * alignment
        }
        return found
    }

    @Test(arguments: [LogSyncPolicy.always, .never])
    func whatIsAppendedIsReadAndNotSeen(_ policy: LogSyncPolicy) throws {
        let rig = try LogRig(sync: policy, keys: try ring(1))
        var held: [Entry] = []
        for number in 0..<30 {
            let text = "marker \(number) marker"
            let entry = LogRig.entry(after: rig.log.last, payload: Array(text.utf8))
            try rig.log.append([entry], sync: true)
            held.append(entry)
        }
        #expect(try rig.all().headers == held.headers)
        try rig.kill()
        #expect(try rig.all().map(\.encoded) == held.map(\.encoded))
        for (name, bytes) in try files(rig) { #expect(!bytes.contains("marker"), "\(name)") }
        #expect(rig.recovery.events.isEmpty)
    }

    @Test func aWrongKeyIsToldAndNothingChanges() throws {
        let rig = try LogRig(keys: try ring(1))
        try rig.append(20)
        let before = try files(rig)
        let other = try EncryptionKeys(current: 1, keys: [1: testKey(50)])
        for keys in [KeyRing(other), try ring(2), KeyRing.plain] {
            rig.options.keys = keys
            let error = #expect(throws: EngineError.self) { try rig.open() }
            guard case .wrongKey(epoch: 1, LogRig.statePath, _)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(try files(rig) == before)
        }
        // The log tells it by itself, too.
        try rig.fileSystem.unlink(LogRig.statePath)
        rig.options.keys = try ring(2)
        let error = #expect(throws: EngineError.self) { try rig.open() }
        guard case .wrongKey(epoch: 1, _, isMissing: true)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func aTamperedEntryIsToldFromARottenOne() throws {
        for tampers in [true, false] {
            let rig = try LogRig(segmentBytes: 1 << 20, keys: try ring(1))
            var entries: [Entry] = []
            for _ in 0..<6 { entries += try rig.append(1) }
            let path = rig.path(1)
            var bytes = try rig.raw(path)
            let frame = frames(bytes)[2]
            if tampers {
                // Tag and the frame's own checksum: the entry decrypts to what it was.
                bytes[frame + 40] ^= 1
                let seed = LogFrame.Place(first: LogIndex(1), offset: UInt64(frame))
                mendFrame(&bytes, frame, seed)
            } else {
                bytes[frame + 48 + 90] ^= 1
            }
            try rig.poke(path, at: frame, Array(bytes[frame..<(frame + 512)]))
            try rig.kill()
            #expect(rig.recovery.holes.map(\.lower) == [LogIndex(3)])
            let isTold = rig.recovery.events.contains { $0.contains("tampered") }
            #expect(isTold == tampers, "\(rig.recovery.events)")
            try rig.log.mend(entries[2])
            #expect(try rig.all().map(\.encoded) == entries.map(\.encoded))
            try rig.kill()
            #expect(try rig.all().map(\.encoded) == entries.map(\.encoded))
        }
    }

    private func mendFrame(_ bytes: inout [UInt8], _ frame: Int, _ place: LogFrame.Place) {
        let seed = withUnsafeBytes(
            of: (place.first.rawValue.littleEndian, place.offset.littleEndian)
        ) { Checksum.crc32c($0) }
        let sum = bytes[(frame + 4)..<(frame + 48)].withUnsafeBytes {
            Checksum.crc32c($0, seed: seed)
        }
        for byte in 0..<4 { bytes[frame + byte] = UInt8(truncatingIfNeeded: sum >> (8 * byte)) }
    }

    @Test func theSegmentHeaderStandsTwice() throws {
        let rig = try LogRig(keys: try ring(1))
        var entries: [Entry] = []
        for _ in 0..<40 { entries += try rig.append(2, bytes: 200) }
        let sound = try files(rig)
        for name in try rig.fileSystem.list(LogRig.directory) where name.hasSuffix(".seg") {
            for copy: UInt64 in [100, 4096 + 480] {
                rig.fileSystem.flip(LogRig.directory + "/" + name, copy)
                try rig.kill()
                #expect(try rig.all().map(\.encoded) == entries.map(\.encoded))
                #expect(rig.recovery.events.count == 1, "\(rig.recovery.events)")
                #expect(rig.recovery.holes.isEmpty)
                let bytes = try rig.raw(LogRig.directory + "/" + name)
                #expect(bytes[..<512] == bytes[4096..<4608])
                // The active one has a new key since the open.
                let isActive = try rig.segmentFirsts().max().map { rig.path($0).hasSuffix(name) }
                #expect((bytes[..<512] != sound[name]?[..<512]) == isActive)
            }
        }
    }

    /// Both headers gone: what cannot be read is lost here, fetched by content and written anew.
    @Test func aSegmentWithoutItsSaltIsMended() throws {
        let rig = try LogRig(segmentBytes: 1 << 20, keys: try ring(1))
        var entries: [Entry] = []
        for _ in 0..<5 { entries += try rig.append(1) }
        for copy: UInt64 in [100, 4096 + 100] { rig.fileSystem.flip(rig.path(1), copy) }
        try rig.kill()
        #expect(rig.recovery.holes.first?.lower == LogIndex(1))
        #expect(rig.recovery.holes.last?.upper == LogIndex(5))
        try rig.append(1)
        for entry in entries.reversed() { try rig.log.mend(entry) }
        #expect(rig.log.holes.isEmpty)
        #expect(try rig.all().prefix(5).map(\.encoded) == entries.map(\.encoded))
        try rig.kill()
        #expect(try rig.all().prefix(5).map(\.encoded) == entries.map(\.encoded))
    }

    @Test func keysAreTurnedOnChangedAndTurnedOff() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        var held: [Entry] = []
        var seed: UInt64 = 1
        for epochs in [[0], [1], [2, 1], [2], [0, 2], []] as [[UInt32]] {
            seed += 1
            var keys: [UInt32: EncryptionKey] = [:]
            for epoch in epochs where epoch > 0 { keys[epoch] = try testKey(UInt8(epoch)) }
            rig.options.keys = KeyRing(
                epochs.isEmpty
                    ? nil : try EncryptionKeys(current: epochs[0], keys: keys),
                random: seededNumbers(seed))
            try rig.kill()
            #expect(try rig.all().map(\.encoded) == held.map(\.encoded), "\(epochs)")
            #expect(rig.recovery.events.isEmpty, "\(rig.recovery.events)")
            let entry = LogRig.entry(after: rig.log.last, payload: Array("marker".utf8))
            try rig.log.append([entry], sync: true)
            held.append(entry)
            let isPlain = (epochs.first ?? 0) == 0
            for (name, bytes) in try files(rig) where name.hasSuffix(".seg") {
                #expect(bytes.contains("marker") == isPlain, "\(epochs)")
            }
        }
    }

    /// A backup that is put back, or a clone: original and copy go on behind the same entries, in
    /// the same epoch. Under one key they would use the same nonces.
    @Test(arguments: [LogSyncPolicy.always, .never])
    func aCopyOfTheDirectoryGoesOnUnderAnotherKey(_ policy: LogSyncPolicy) throws {
        let watch = SealWatch()
        let rig = try LogRig(
            sync: policy, segmentBytes: 1 << 20,
            keys: KeyRing(try testKeys(1), random: seededNumbers(7), observer: watch.observer))
        let entries = try rig.append(3)
        let copy = try LogRig(afterPowerCutOf: rig)
        try copy.append(2, salt: 1)
        try rig.kill()
        try rig.append(2, salt: 2)
        #expect(watch.repeated.isEmpty)
        #expect(try copy.all().prefix(3).map(\.encoded) == entries.map(\.encoded))
        #expect(try rig.all().prefix(3).map(\.encoded) == entries.map(\.encoded))
    }

    /// Hard state lost, and with it the epoch of frames that a power cut took: it is used again.
    @Test func aLostEpochMeetsAnotherKey() throws {
        for seed in 1...8 as ClosedRange<UInt64> {
            let watch = SealWatch()
            let rig = try LogRig(
                seed: seed, segmentBytes: 1 << 20,
                keys: KeyRing(try testKeys(1), random: seededNumbers(7), observer: watch.observer))
            try rig.append(3)
            try rig.kill()
            try rig.append(1, sync: false)
            rig.fileSystem.powerCut()
            try rig.fileSystem.unlink(LogRig.statePath)
            try rig.open()
            try rig.append(1, salt: 1)
            #expect(watch.repeated.isEmpty, "seed \(seed)")
        }
    }

    /// Without space for a second file the log opens with the first, and leaves nothing behind.
    @Test func withoutSpaceTheActiveSegmentStays() throws {
        let rig = try LogRig(segmentBytes: 1 << 20, keys: try ring(1))
        let entries = try rig.append(40, bytes: 1000)
        let header = try rig.raw(rig.path(1))[..<4608]
        rig.fileSystem.restart()
        let names = try rig.fileSystem.list(LogRig.directory)
        let free = rig.fileSystem.capacity
        rig.fileSystem.capacity = 0
        try rig.open()
        #expect(try rig.fileSystem.list(LogRig.directory) == names)
        #expect(try rig.raw(rig.path(1))[..<4608] == header)
        #expect(rig.recovery.events.contains { $0.contains("no space to write it anew") })
        rig.fileSystem.capacity = free
        try rig.append(1)
        #expect(try rig.all().prefix(40).map(\.encoded) == entries.map(\.encoded))
    }

    /// The file made anew at open says as well as the old one what was durable: damage of it is a
    /// hole, not a torn end.
    @Test func damageBehindAnOpenIsNoTornEnd() throws {
        let rig = try LogRig(segmentBytes: 1 << 20, keys: try ring(1))
        let entries = try rig.append(4)
        try rig.kill()
        // The volatile page and the frame that follows say so, too: without them.
        for slot: UInt64 in [4, 5] { rig.fileSystem.flip(LogRig.statePath, slot << 16 + 30) }
        let frame = try #require(frames(try rig.raw(rig.path(1)), alignment: 1).dropFirst(2).first)
        rig.fileSystem.flip(rig.path(1), UInt64(frame + 48 + 90))
        try rig.kill()
        #expect(rig.log.last == entries[3].position)
        #expect(rig.recovery.holes.map(\.lower) == [entries[2].index])
    }

    @Test func aTamperedCopyOfHardStateCountsAsDamaged() throws {
        let rig = try LogRig(keys: try ring(1))
        try rig.hardState.saveVote(term: Term(3), vote: MemberID(2))
        var bytes = Array(try rig.raw(LogRig.statePath)[..<512])
        bytes[30] ^= 1
        let sum = Checksum.crc32c(Array(bytes[..<508]))
        for byte in 0..<4 { bytes[508 + byte] = UInt8(truncatingIfNeeded: sum >> (8 * byte)) }
        try rig.poke(LogRig.statePath, at: 0, bytes)
        try rig.kill()
        #expect(rig.hardState.current.term == Term(3) && rig.hardState.isVoteTrusted)
        #expect(rig.hardState.damagedCopies == [0] && rig.hardState.tamperedCopies == [0])
        #expect(rig.recovery.events.contains { $0.contains("tampered") })
    }

    @Test func goldenBytes() throws {
        let rig = try LogRig(keys: try ring(1))
        try rig.append(2)
        let segment = try rig.raw(rig.path(1))
        #expect(
            Digest128(of: Array(segment[..<6144])).description == "503d1874efa8262784c7b45ef0d08e18"
        )
        let state = try rig.raw(LogRig.statePath)
        #expect(Digest128(of: state).description == "12b9f2519af64c0de1ae6d23977545dc")
    }
}
