// A manifest looked at from outside: what it holds, whoever's it is, and what is wrong with it.
import Engine
import Testing

@Suite struct ManifestInspectionTests {
    private let identity = ManifestIdentity(
        genesis: Digest128(low: 7, high: 9), group: 0, node: MemberID(4))

    /// A manifest of a snapshot and `steps` records of edits in /n/group-0, and its state.
    private func make(_ steps: Int) throws -> (disk: MemoryFileSystem, state: ManifestState) {
        let disk = MemoryFileSystem(seed: 1)
        try disk.createDirectory("/n/group-0")
        let file = try ManifestFile.create(
            disk, directory: "/n/group-0", identity: identity, state: Sample.emptyState)
        for step in 0..<steps { try file.append(Sample.sealing(step)) }
        return (disk, file.state)
    }

    private let copies = ["/n/group-0/MANIFEST-1", "/n/group-0/MANIFEST-1.mirror"]

    @Test func everyPathToAManifestShowsTheSame() throws {
        let (disk, state) = try make(3)
        for path in ["/n/group-0", "/n"] + copies {
            let found = try ManifestInspection.inspect(disk, path)
            #expect(found.number == 1 && found.identity == identity)
            #expect(found.state == state && found.notes.isEmpty && !found.isDamaged)
            #expect(found.records.map(\.ordinal) == [0, 1, 2, 3])
            #expect(found.records.map(\.isSnapshot) == [true, false, false, false])
            #expect(found.records.map(\.edits) == [[]] + (0..<3).map(Sample.sealing))
        }
    }

    @Test func oneCopyMakesUpForTheOther() throws {
        let (disk, state) = try make(3)
        let records = try ManifestInspection.inspect(disk, "/n").records
        disk.flip(copies[0], UInt64(records[1].range.lowerBound + 60))
        disk.flip(copies[1], UInt64(records[2].range.lowerBound + 60))
        let found = try ManifestInspection.inspect(disk, "/n")
        #expect(found.state == state && found.isDamaged)
        // Each copy has a hole with intact records behind it.
        #expect(found.notes.map(\.file) == ["MANIFEST-1", "MANIFEST-1.mirror"])
        // Alone, neither goes further than its hole.
        #expect(try ManifestInspection.inspect(disk, copies[0]).records.count == 1)
        let mirror = try ManifestInspection.inspect(disk, copies[1])
        #expect(mirror.records.count == 2 && mirror.isDamaged)
        #expect(mirror.notes.contains { $0.text.contains("asks a peer") })
    }

    @Test func damageOfBothCopiesEndsTheChainAndIsTold() throws {
        let (disk, _) = try make(3)
        let records = try ManifestInspection.inspect(disk, "/n").records
        for copy in copies { disk.flip(copy, UInt64(records[2].range.lowerBound + 60)) }
        let found = try ManifestInspection.inspect(disk, "/n")
        #expect(found.records.count == 2 && found.isDamaged)
        #expect(found.state?.frontier == LogIndex(16))
    }

    @Test func aTornAppendIsNoDamage() throws {
        let (disk, state) = try make(2)
        for copy in copies {
            let file = try disk.open(copy, .write)
            try file.writeAll([1, 2, 3], at: try file.size())
        }
        let found = try ManifestInspection.inspect(disk, "/n")
        #expect(found.state == state && !found.isDamaged && found.notes.count == 2)
    }

    @Test func aMissingCopyOrPointerIsDamage() throws {
        let (disk, state) = try make(2)
        try disk.unlink(copies[1])
        let found = try ManifestInspection.inspect(disk, "/n")
        #expect(found.state == state && found.isDamaged)
        try disk.unlink("/n/group-0/CURRENT")
        let pointless = try ManifestInspection.inspect(disk, "/n/group-0")
        #expect(pointless.state == state)
        #expect(pointless.notes.first?.text == "CURRENT: it is missing; shown is pair 1")
    }

    @Test func whatIsNoManifestIsRefused() throws {
        let disk = MemoryFileSystem(seed: 1)
        try disk.createDirectory("/empty")
        for (name, bytes) in [("a", [UInt8]()), ("b", [UInt8](repeating: 3, count: 400))] {
            try disk.open("/empty/" + name, .create).writeAll(bytes, at: 0)
            #expect(throws: EngineError.self) {
                try ManifestInspection.inspect(disk, "/empty/" + name)
            }
        }
        for path in ["/empty", "/none"] {
            #expect(throws: EngineError.self) { try ManifestInspection.inspect(disk, path) }
        }
    }

    /// Every byte flipped, every length: told or harmless, never a trap, never more than was there.
    @Test func damagedCopiesNeverTrap() throws {
        let (disk, state) = try make(3)
        let bytes = try disk.readAll(copies[0], limit: 1 << 20)
        let last = state.frontier
        for place in stride(from: 0, to: bytes.count, by: 3) {
            var damaged = bytes
            damaged[place] ^= 0x21
            for image in [damaged, [UInt8](bytes[..<place])] {
                let alone = MemoryFileSystem(seed: 2)
                try alone.open("m", .create).writeAll(image, at: 0)
                guard let found = try? ManifestInspection.inspect(alone, "m") else { continue }
                #expect(found.records.count < 4 || found.isDamaged)
                #expect((found.state?.frontier ?? .zero) <= last)
            }
        }
    }
}
