// An encrypted manifest: read with its key only, tampering told, rotation in place.
import Engine
import Testing

@Suite struct ManifestEncryptionTests {
    private static let identity = ManifestIdentity(
        genesis: Digest128(low: 7, high: 9), group: 0, node: MemberID(1))
    private static let directory = "/g"

    private func disk(_ seed: UInt64 = 1) throws -> MemoryFileSystem {
        let disk = MemoryFileSystem(seed: seed)
        try disk.createDirectory(Self.directory)
        return disk
    }

    private func create(
        _ disk: MemoryFileSystem, _ keys: KeyRing, rewriteBytes: UInt64 = 1 << 20
    ) throws -> ManifestFile {
        try ManifestFile.create(
            disk, directory: Self.directory, identity: Self.identity, keys: keys,
            state: Sample.emptyState, rewriteBytes: rewriteBytes)
    }

    private func recover(_ disk: MemoryFileSystem, _ keys: KeyRing) throws -> ManifestFile.Recovery
    {
        try #require(
            try ManifestFile.recover(
                disk, directory: Self.directory, identity: Self.identity, keys: keys))
    }

    private func edits(_ round: UInt64) -> [ManifestEdit] {
        let segment = (round * 10)...(round * 10 + 5)
        return [
            .flushedThrough(Sample.point(segment.upperBound, nextSequence: segment.upperBound + 1)),
            .sealInstalled(
                at: LogIndex(round * 10 + 6),
                Sample.seal(
                    segment, [Sample.flush(segment, "marker-a\(round)", "marker-b\(round)")]),
                local: [Sample.local()], horizon: .zero),
        ]
    }

    private func manifests(_ disk: MemoryFileSystem) throws -> [String: [UInt8]] {
        var all: [String: [UInt8]] = [:]
        for name in try disk.list(Self.directory) {
            all[name] = try disk.readAll(Self.directory + "/" + name, limit: 1 << 30)
        }
        return all
    }

    @Test func itIsReadWithItsKeyAndNotSeen() throws {
        let disk = try disk()
        let watch = SealWatch()
        let keys = KeyRing(
            try testKeys(1), random: seededNumbers(1), observer: watch.observer)
        var file = try create(disk, keys, rewriteBytes: 600)
        let before = file.number
        for round in 1...12 as ClosedRange<UInt64> {
            try file.append(edits(round))
            if round % 3 == 0 {
                let state = file.state
                disk.powerCut()
                file = try recover(disk, keys).file
                #expect(file.state == state)
            }
        }
        #expect(file.number > before, "no rollover")
        #expect(watch.count > 12 && watch.repeated.isEmpty)
        for (name, bytes) in try manifests(disk) { #expect(!bytes.contains("marker"), "\(name)") }
    }

    @Test func aWrongKeyIsToldAndNothingChanges() throws {
        let disk = try disk()
        try create(disk, KeyRing(try testKeys(1))).append(edits(1))
        let before = try manifests(disk)
        let other = try EncryptionKeys(current: 1, keys: [1: testKey(50)])
        for keys in [KeyRing(other), KeyRing(try testKeys(2)), KeyRing.plain] {
            let error = #expect(throws: EngineError.self) { _ = try recover(disk, keys) }
            guard case .wrongKey(epoch: 1, _, _)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(try manifests(disk) == before)
        }
    }

    /// A manifest of a snapshot and one record, with a byte of the record changed.
    private func changed(_ content: [UInt8], mendsChecksum: Bool) -> [UInt8] {
        var bytes = content
        let length = bytes[(128 + 36)..<(128 + 40)].reversed().reduce(0) { $0 << 8 | Int($1) }
        let last = 128 + 56 + length
        bytes[last + 70] ^= 1
        if mendsChecksum {
            let sum = Digest128(of: Array(bytes[(last + 16)...]))
            let words = withUnsafeBytes(of: (sum.low.littleEndian, sum.high.littleEndian)) {
                Array($0)
            }
            bytes.replaceSubrange(last..<(last + 16), with: words)
        }
        return bytes
    }

    private func replace(_ name: String, on disk: MemoryFileSystem, with bytes: [UInt8]) throws {
        let file = try disk.open(Self.directory + "/" + name, .write)
        try file.writeAll(bytes, at: 0)
        try file.sync()
    }

    /// One copy's record whose checksum was put right is no better than a damaged one: the other's
    /// counts, whichever is looked at first.
    @Test(arguments: [false, true])
    func oneCopyThatWasTamperedWithIsMended(_ isMirror: Bool) throws {
        let keys = KeyRing(try testKeys(1), random: seededNumbers(3))
        let disk = try disk()
        let file = try create(disk, keys)
        try file.append(edits(1))
        for (name, content) in try manifests(disk)
        where name.hasPrefix("MANIFEST") && name.hasSuffix(".mirror") == isMirror {
            try replace(name, on: disk, with: changed(content, mendsChecksum: true))
        }
        let recovery = try recover(disk, keys)
        #expect(recovery.file.state == file.state)
        #expect(recovery.notes.count == 1)
        #expect(recovery.notes.first?.text.contains("tampered") == true)
        #expect(try recover(disk, keys).notes.isEmpty)
    }

    /// The chain is put right in both copies, which a checksum alone would not notice.
    @Test func tamperingIsToldFromRot() throws {
        let keys = KeyRing(try testKeys(1), random: seededNumbers(3))
        for tampers in [true, false] {
            let disk = try disk()
            try create(disk, keys).append(edits(1))
            for (name, content) in try manifests(disk) where name.hasPrefix("MANIFEST") {
                try replace(name, on: disk, with: changed(content, mendsChecksum: tampers))
            }
            if tampers {
                let last = try ManifestInspection.inspect(disk, Self.directory, keys: keys).records
                    .last
                let error = #expect(throws: EngineError.self) { _ = try recover(disk, keys) }
                guard case .corrupt("MANIFEST-1", let offset, let reason)? = error else {
                    Issue.record("\(String(describing: error))")
                    continue
                }
                #expect(reason.contains("tampered"))
                #expect(offset == last.map { UInt64($0.range.lowerBound) })
            } else {
                // The last record, bad in both copies, reads as torn.
                #expect(try recover(disk, keys).file.state == Sample.emptyState)
            }
        }
    }

    @Test func aFailedAppendNeverSharesItsNonce() throws {
        let disk = try disk()
        let watch = SealWatch()
        let keys = KeyRing(try testKeys(1), random: seededNumbers(1), observer: watch.observer)
        let file = try create(disk, keys)
        try file.append(edits(1))
        disk.capacity = disk.usedBytes + 100
        for _ in 0..<3 { #expect(throws: EngineError.self) { try file.append(edits(2)) } }
        disk.capacity = .max
        try file.append(edits(2))
        let state = file.state
        #expect(watch.repeated.isEmpty)
        disk.powerCut()
        #expect(try recover(disk, keys).file.state == state)
    }

    @Test func keysAreTurnedOnChangedAndTurnedOff() throws {
        let disk = try disk()
        try create(disk, .plain).append(edits(1))
        var state = try recover(disk, .plain).file.state
        for keys in [try testKeys(1), try testKeys(2, 1), try testKeys(2), try testKeys(0, 2)] {
            let ring = KeyRing(keys, random: seededNumbers(UInt64(keys.current) + 7))
            let file = try recover(disk, ring).file
            #expect(file.state == state)
            try file.append(edits(file.state.flushed.position.index.rawValue / 10 + 1))
            state = file.state
            for (name, bytes) in try manifests(disk) where name.hasPrefix("MANIFEST") {
                #expect(bytes.contains("marker") == (keys.current == 0), "\(name)")
            }
        }
        #expect(try recover(disk, .plain).file.state == state)
    }

    @Test func toolsReadItWithItsKey() throws {
        let disk = try disk()
        let file = try create(disk, KeyRing(try testKeys(1), random: seededNumbers(1)))
        for round in 1...3 as ClosedRange<UInt64> { try file.append(edits(round)) }
        let state = try recover(disk, KeyRing(try testKeys(1))).file.state
        let found = try ManifestInspection.inspect(
            disk, Self.directory, keys: KeyRing(reading: try testKey(1)))
        #expect(found.state == state && found.notes.isEmpty)
        #expect(found.records.map(\.edits.count) == [0, 2, 2, 2])
        for keys in [KeyRing.plain, KeyRing(reading: try testKey(9))] {
            let error = #expect(throws: EngineError.self) {
                try ManifestInspection.inspect(disk, Self.directory, keys: keys)
            }
            guard case .wrongKey(epoch: 1, _, _)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    @Test func goldenBytes() throws {
        let disk = try disk()
        let file = try create(disk, KeyRing(try testKeys(1), random: seededNumbers(1)))
        try file.append(edits(1))
        let bytes = try disk.readAll(Self.directory + "/MANIFEST-1", limit: 1 << 20)
        #expect(Digest128(of: bytes).description == "a60cd21160061f11ecd2f230ee054212")
    }
}
