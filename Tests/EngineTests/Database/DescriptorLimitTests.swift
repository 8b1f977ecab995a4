// A process that may open no more files: what needs one says so with a typed error, nothing is
// lost or taken for damage, and all goes on once there are descriptors.
import Engine
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite struct DescriptorLimitTests {
    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 200)
    }

    private func makeRig() throws -> (rig: DatabaseRig, files: ScarceFileSystem) {
        let files = ScarceFileSystem(MemoryFileSystem(seed: 1))
        var options = DatabaseRig.smallOptions()
        options.store.openTables = 1
        let rig = try DatabaseRig(options, memory: files.base, wrapped: { _ in files })
        return (rig, files)
    }

    private func isOutOfDescriptors(_ error: any Error) -> Bool {
        guard case .file(let cause)? = error as? EngineError else { return false }
        return cause.code == EMFILE
    }

    @Test func `A read that cannot open its table says so, and nothing counts as lost`() throws {
        let (rig, files) = try makeRig()
        for number in 0..<60 { try rig.database.put(key(number), value(number)) }
        try rig.database.flush()
        try rig.close()
        try rig.open()
        files.left = 0
        #expect { try rig.database.get(key(3)) } throws: { isOutOfDescriptors($0) }
        #expect { try rig.database.scan(.everything) } throws: { isOutOfDescriptors($0) }
        files.left = .max
        for number in 0..<60 { #expect(try rig.database.get(key(number)) == value(number)) }
        #expect(rig.store.healer.hints.all.isEmpty)
    }

    /// Whatever the first file is that cannot be opened.
    @Test func `An open without descriptors is refused and changes nothing`() throws {
        let (rig, files) = try makeRig()
        for number in 0..<60 { try rig.database.put(key(number), value(number)) }
        rig.kill()
        var refused = 0
        for budget in 0..<200 {
            files.left = budget
            do {
                try rig.open()
                break
            } catch {
                refused += 1
                #expect(isKnown(error), "after \(budget) files: \(error)")
                rig.kill()
            }
        }
        #expect((5..<200).contains(refused))
        files.left = .max
        rig.kill()
        try rig.open()
        for number in 0..<60 { #expect(try rig.database.get(key(number)) == value(number)) }
        #expect(try rig.database.scan(.everything).count == 60)
    }

    /// Writes that end segments, flushes and compactions; then a crash, or descriptors are back.
    @Test(arguments: 0..<24, [false, true])
    func `What was acknowledged before and beside the lack is there`(
        budget: Int, isKilled: Bool
    ) throws {
        let (rig, files) = try makeRig()
        for number in 0..<20 { try rig.database.put(key(number), value(number)) }
        files.left = budget
        var acknowledged = 20
        for number in 20..<120 {
            do {
                try rig.database.put(key(number), value(number))
                acknowledged = number + 1
            } catch {
                #expect(isKnown(error), "\(error)")
                break
            }
            rig.runJobs(1)
        }
        rig.jobs.runAll()
        #expect(files.refusals > 0)
        files.left = .max
        if isKilled {
            rig.kill()
            try rig.open()
        } else {
            rig.clock.advance(1_000)
        }
        for number in 0..<acknowledged {
            #expect(try rig.database.get(key(number)) == value(number), "key \(number)")
        }
        for number in 120..<200 { try rig.database.put(key(number), value(number)) }
        try rig.database.compactAll()
        for number in 0..<acknowledged {
            #expect(try rig.database.get(key(number)) == value(number), "key \(number)")
        }
    }

    /// What is refused, and may be tried again: nothing ends the database.
    private func isKnown(_ error: any Error) -> Bool {
        switch error as? EngineError {
        case .busy?: true
        default: isOutOfDescriptors(error)
        }
    }
}

/// Opens so many files and directories and no more.
final class ScarceFileSystem: FileSystem, @unchecked Sendable {
    // Unchecked: one test's thread uses it.
    let base: MemoryFileSystem
    var left = Int.max
    private(set) var refusals = 0

    init(_ base: MemoryFileSystem) { self.base = base }

    private func spend(_ operation: String, _ path: String) throws(FileError) {
        guard left > 0 else {
            refusals += 1
            throw FileError(operation: operation, path: path, code: EMFILE)
        }
        left -= 1
    }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        try spend("open", path)
        return try base.open(path, mode)
    }
    func createDirectory(_ path: String) throws(FileError) {
        try spend("open", path)
        try base.createDirectory(path)
    }
    func list(_ directory: String) throws(FileError) -> [String] {
        try spend("opendir", directory)
        return try base.list(directory)
    }
    func exists(_ path: String) -> Bool { base.exists(path) }
    func rename(_ from: String, to: String) throws(FileError) { try base.rename(from, to: to) }
    func unlink(_ path: String) throws(FileError) { try base.unlink(path) }
    func link(_ from: String, to: String) throws(FileError) { try base.link(from, to: to) }
    func syncDirectory(_ directory: String) throws(FileError) {
        try spend("open", directory)
        try base.syncDirectory(directory)
    }
    func lock(_ path: String) throws(FileError) -> (any FileLock)? {
        try spend("open", path)
        return try base.lock(path)
    }
    func freeBytes(_ path: String) throws(FileError) -> UInt64 { try base.freeBytes(path) }
}
