// The faults of the in-memory file system: each can happen, and none happens to what was synced.
import Engine
import Testing

@Suite struct MemoryFileSystemTests {
    private func contents(_ files: MemoryFileSystem, _ path: String) throws -> [UInt8] {
        try files.readAll(path, limit: 1 << 20)
    }

    /// A synced file of ones and its name, with twos written over it and not synced.
    private func prepared(_ seed: UInt64) throws -> MemoryFileSystem {
        let files = MemoryFileSystem(seed: seed)
        let file = try files.open("f", .create)
        try file.writeAll([UInt8](repeating: 1, count: 16384), at: 0)
        try file.sync()
        try files.syncDirectory(".")
        try file.writeAll([UInt8](repeating: 2, count: 16384), at: 0)
        return files
    }

    @Test func aPowerCutKeepsAnySectorsButWholeOnes() throws {
        var patterns: Set<[UInt8]> = []
        var laterWithoutEarlier = false
        for seed in 1...200 as ClosedRange<UInt64> {
            let files = try prepared(seed)
            files.powerCut()
            let bytes = try contents(files, "f")
            #expect(bytes.count == 16384)
            let sectors = stride(from: 0, to: bytes.count, by: 512).map { start -> UInt8 in
                let sector = bytes[start..<(start + 512)]
                #expect(Set(sector).count == 1)
                return sector[start]
            }
            patterns.insert(sectors)
            if sectors[0] == 1, sectors[31] == 2 { laterWithoutEarlier = true }
        }
        #expect(patterns.count > 40)
        #expect(laterWithoutEarlier)
        #expect(patterns.contains([UInt8](repeating: 1, count: 32)))
        #expect(patterns.contains([UInt8](repeating: 2, count: 32)))
    }

    @Test func theSameSeedReplays() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let (left, right) = (try prepared(seed), try prepared(seed))
            left.powerCut()
            right.powerCut()
            #expect(try contents(left, "f") == contents(right, "f"))
        }
    }

    @Test func aSnapshotLeavesTheOriginalAlone() throws {
        let files = try prepared(4)
        let copies = try (0..<8).map { _ in try contents(files.snapshotAfterPowerCut(), "f") }
        #expect(Set(copies).count > 1)
        #expect(try contents(files, "f") == [UInt8](repeating: 2, count: 16384))
    }

    @Test func anUnsyncedNameMayVanishOrStay() throws {
        var outcomes: Set<[String]> = []
        for seed in 1...60 as ClosedRange<UInt64> {
            let files = MemoryFileSystem(seed: seed)
            for name in ["a", "b"] {
                try files.open(name, .create).writeAll([1], at: 0)
                try files.open(name, .write).sync()
            }
            try files.syncDirectory(".")
            try files.rename("a", to: "c")
            try files.unlink("b")
            _ = try files.open("d", .create)
            files.powerCut()
            let names = try files.list(".")
            outcomes.insert(names)
            // A rename is one step: the file is under exactly one name.
            #expect(names.contains("a") != names.contains("c"))
        }
        #expect(outcomes.count == 8)
    }

    /// What was appended may have reached the medium, and the truncation that took it back not.
    @Test func anUnsyncedTruncationMayBeLost() throws {
        var sizes: [Bool: Set<Int>] = [:]
        for seed in 1...60 as ClosedRange<UInt64> {
            for isSynced in [false, true] {
                let files = MemoryFileSystem(seed: seed)
                let file = try files.open("f", .create)
                try file.writeAll([UInt8](repeating: 1, count: 1000), at: 0)
                try file.sync()
                try files.syncDirectory(".")
                try file.writeAll([UInt8](repeating: 2, count: 2000), at: 1000)
                try file.truncate(to: 1000)
                if isSynced { try file.sync() }
                files.powerCut()
                let bytes = try contents(files, "f")
                #expect(bytes.prefix(1000) == [UInt8](repeating: 1, count: 1000)[...])
                sizes[isSynced, default: []].insert(bytes.count)
            }
        }
        #expect(sizes[true] == [1000])
        #expect(sizes[false]?.contains(1000) == true && sizes[false]?.contains(3000) == true)
    }

    /// A file that was moved between directories is not under its first name any more, although
    /// that directory was never synced.
    @Test func aSyncedMoveEndsTheOldName() throws {
        for seed in 1...30 as ClosedRange<UInt64> {
            let files = MemoryFileSystem(seed: seed)
            try files.createDirectory("staged")
            try files.createDirectory("sst")
            try files.open("staged/a", .create).sync()
            try files.rename("staged/a", to: "sst/a")
            try files.syncDirectory("sst")
            files.powerCut()
            #expect(try files.list("staged").isEmpty)
            #expect(try files.list("sst") == ["a"])
        }
    }

    @Test func aSyncedNameAndSizeStay() throws {
        for seed in 1...30 as ClosedRange<UInt64> {
            let files = MemoryFileSystem(seed: seed)
            let file = try files.open("a", .create)
            try file.writeAll([UInt8](repeating: 3, count: 3000), at: 0)
            try file.truncate(to: 2000)
            try file.sync()
            try files.syncDirectory(".")
            files.powerCut()
            #expect(try contents(files, "a") == [UInt8](repeating: 3, count: 2000))
            #expect(throws: FileError.self) { try file.size() }
        }
    }

    @Test func aFailedSyncLies() throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let files = try prepared(seed)
            let file = try files.open("f", .write)
            files.failNextSync("f")
            #expect(throws: FileError.self) { try file.sync() }
            try file.sync()  // returns, and has written nothing
            #expect(try file.readBytes(at: 0, count: 1) == [2])
            #expect(try file.readBytes(at: 0, count: 1, fromMedium: true) == [1])
            try file.writeAll([UInt8](repeating: 2, count: 512), at: 512)
            try file.sync()
            files.powerCut()
            let bytes = try contents(files, "f")
            #expect(bytes[0] == 1 && bytes[512] == 2 && bytes[1024] == 1)
        }
    }

    @Test func damageAsOrdered() throws {
        let files = try prepared(1)
        let file = try files.open("f", .write)
        files.flip("f", 5, mask: 4)
        #expect(try file.readBytes(at: 5, count: 1) == [6])
        files.flip("f", 6, mask: 4, onMedium: false)
        #expect(try file.readBytes(at: 6, count: 1) == [6])
        #expect(try file.readBytes(at: 6, count: 1, fromMedium: true) == [2])
        files.tear("f", 100..<200)
        #expect(try file.readBytes(at: 99, count: 3) == [2, 0, 0])
        files.failReads("f", [4096..<8192])
        #expect(throws: FileError.self) { try file.readBytes(at: 4000, count: 200) }
        #expect(try file.readBytes(at: 0, count: 4096).count == 4096)
        files.failReads("f", [])
        #expect(try file.readBytes(at: 4000, count: 200).count == 200)
    }

    @Test func spaceRunsOut() throws {
        let files = try prepared(1)
        let file = try files.open("f", .write)
        files.capacity = 20000
        #expect(try files.freeBytes(".") == 20000 - 16384)
        #expect(try files.totalBytes(".") == 20000)
        #expect {
            try file.writeAll([UInt8](repeating: 2, count: 5000), at: 16384)
        } throws: { ($0 as? FileError)?.isNoSpace == true }
        try file.writeAll([UInt8](repeating: 2, count: 3000), at: 16384)
    }

    @Test func aSkippedSyncIsCountedAndDoesNothing() throws {
        var isLost = false
        for seed in 1...20 as ClosedRange<UInt64> {
            let files = try prepared(seed)
            #expect(files.syncCount == 2)
            files.skipSync = [3]
            try files.open("f", .write).sync()
            #expect(files.syncCount == 3)
            files.powerCut()
            if try contents(files, "f").contains(1) { isLost = true }
        }
        #expect(isLost)
    }

    @Test func aStoppedProcessChangesNothingMore() throws {
        let files = try prepared(1)
        let file = try files.open("f", .write)
        let before = files.operationCount
        files.stop(after: 2)
        try file.writeAll([7], at: 0)
        try file.sync()
        #expect(throws: FileError.self) { try file.writeAll([8], at: 0) }
        #expect(throws: FileError.self) { try files.unlink("f") }
        #expect(files.operationCount == before + 2)
        files.restart()
        #expect(try contents(files, "f")[0] == 7)
    }

    @Test func storesThroughAMappingAreLostLikeWrites() throws {
        var kept = 0
        for seed in 1...40 as ClosedRange<UInt64> {
            let files = try prepared(seed)
            let file = try files.open("f", .write)
            try file.sync()
            let mapping = try file.map(size: 16384)
            mapping.bytes[9000] = 9
            if seed % 2 == 0 { try file.sync() }
            files.powerCut()
            let byte = try contents(files, "f")[9000]
            if seed % 2 == 0 { #expect(byte == 9) } else if byte == 9 { kept += 1 }
            withExtendedLifetime(mapping) {}
        }
        #expect(kept > 0 && kept < 20)
    }
}
