// What both file systems promise alike.
import Engine
import Testing

@Suite struct FileSystemTests {
    private func each(_ body: (any FileSystem, String) throws -> Void) throws {
        let directory = try TemporaryDirectory()
        try body(POSIXFileSystem(), directory.path)
        let memory = MemoryFileSystem(seed: 1)
        try memory.createDirectory("/t/x")
        try body(memory, "/t/x")
    }

    @Test func readsAndWritesByPosition() throws {
        try each { files, root in
            let path = root + "/a"
            #expect(throws: FileError.self) { try files.open(path, .write) }
            let file = try files.open(path, .create)
            #expect(throws: FileError.self) { try files.open(path, .create) }
            try file.writeAll([1, 2, 3], at: 5000)
            try file.writeAll([9], at: 0)
            #expect(try file.size() == 5003)
            #expect(try file.readBytes(at: 4998, count: 100) == [0, 0, 1, 2, 3])
            #expect(try file.readBytes(at: 6000, count: 4).isEmpty)
            for fromMedium in [false, true] {
                let bytes = try file.readBytes(at: 4999, count: 7, fromMedium: fromMedium)
                #expect(bytes == [0, 1, 2, 3])
            }
            try file.truncate(to: 5001)
            try file.truncate(to: 5002)
            #expect(try file.readBytes(at: 4999, count: 7) == [0, 1, 0])
            try file.sync()
            let reader = try files.open(path, .read)
            #expect(try reader.readBytes(at: 0, count: 1) == [9])
            #expect(throws: FileError.self) { try reader.writeAll([1], at: 0) }
            #expect(throws: FileError.self) { try file.writeAll([1], at: UInt64.max - 3) }
        }
    }

    @Test func namesAndDirectories() throws {
        try each { files, root in
            try files.createDirectory(root + "/d/e")
            try files.createDirectory(root + "/d/e")
            #expect(throws: FileError.self) { try files.open(root + "/n/f", .create) }
            try files.replace(root + "/d/f", with: [1])
            try files.replace(root + "/d/f", with: [2, 3])
            #expect(try files.readAll(root + "/d/f", limit: 10) == [2, 3])
            #expect(throws: FileError.self) { try files.readAll(root + "/d/f", limit: 1) }
            #expect(try files.list(root + "/d") == ["e", "f"])
            try files.rename(root + "/d/f", to: root + "/d/e/g")
            #expect(try files.list(root + "/d/e") == ["g"])
            #expect(files.exists(root + "/d/e/g") && !files.exists(root + "/d/f"))
            try files.unlink(root + "/d/e/g")
            #expect(throws: FileError.self) { try files.unlink(root + "/d/e/g") }
            try files.syncDirectory(root + "/d/e")
            #expect(throws: FileError.self) { try files.list(root + "/no") }
            #expect(try files.freeBytes(root) > 0)
            #expect(try files.totalBytes(root) >= files.freeBytes(root))
        }
    }

    @Test func anUnlinkedFileLivesWhileItIsOpen() throws {
        try each { files, root in
            let file = try files.open(root + "/a", .create)
            try file.writeAll([7], at: 0)
            try files.unlink(root + "/a")
            #expect(try file.readBytes(at: 0, count: 1) == [7])
            #expect(try file.readBytes(at: 0, count: 1, fromMedium: true) == [7])
        }
    }

    @Test func aMappingAndReadsSeeTheSameBytes() throws {
        try each { files, root in
            let file = try files.open(root + "/m", .create)
            try file.writeAll([5], at: 10)
            var mapping: (any FileMapping)? = try file.map(size: 8192)
            #expect(try file.size() == 8192)
            #expect(mapping?.bytes[10] == 5)
            mapping?.bytes[4096] = 42
            #expect(try file.readBytes(at: 4096, count: 1) == [42])
            try file.writeAll([43], at: 4097)
            #expect(mapping?.bytes[4097] == 43)
            try file.sync()
            mapping = nil
            #expect(try file.readBytes(at: 4095, count: 3) == [0, 42, 43])
            let larger = try file.map(size: 16384)
            #expect(larger.bytes[4096] == 42)
        }
    }

    @Test func aLockIsExclusiveUntilReleased() throws {
        try each { files, root in
            var first = try files.lock(root + "/LOCK")
            #expect(first != nil)
            #expect(try files.lock(root + "/LOCK") == nil)
            first = nil
            #expect(try files.lock(root + "/LOCK") != nil)
        }
    }
}
