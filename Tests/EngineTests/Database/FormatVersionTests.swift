// Files of a format to come, sound by every checksum: an error names file and version, and they
// stay as they are. Taken for damaged ones they would be written over.
import Engine
import Testing

@Suite struct FormatVersionTests {
    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }

    private func contents(_ path: String, _ files: MemoryFileSystem) throws -> [UInt8] {
        let file = try files.open(path, .read)
        return try file.readBytes(at: 0, count: Int(file.size()))
    }

    /// Version 77, which stands behind a magic number, and the checksum behind `count` bytes.
    private func changed(_ bytes: [UInt8], covered count: Int, hasDigest: Bool) -> [UInt8] {
        var bytes = bytes
        bytes[8] = 77
        var check = ByteWriter()
        if hasDigest {
            check.write(Digest128(of: Array(bytes[..<count])))
        } else {
            check.write(Checksum.crc32c(Array(bytes[..<count])))
        }
        bytes.replaceSubrange(count..<(count + check.count), with: check.bytes)
        return bytes
    }

    @Test func `A file of another format version is refused and stays as it is`() throws {
        let rig = try DatabaseRig()
        for number in 0..<40 {
            try rig.database.put(key(number), [UInt8](repeating: 1, count: 100))
        }
        try rig.database.flush()
        try rig.database.put(key(40), [2])
        try rig.close()
        let group = DatabaseRig.group
        let segment = try #require(
            rig.memory.list(group + "/log").last { $0.hasSuffix(".seg") })
        let identity = try contents(DatabaseRig.path + "/node", rig.memory).count - 16
        let table = try #require(rig.memory.list(group + "/sst").first { $0.hasSuffix(".sst") })
        let cases: [(path: String, covered: Int, hasDigest: Bool)] = [
            (DatabaseRig.path + "/node", identity, true), (group + "/state", 508, false),
            (group + "/log/" + segment, 508, false),
            (group + "/MANIFEST-1", 48, true), (group + "/sst/" + table, 124, false),
        ]
        for (path, covered, hasDigest) in cases {
            let good = try contents(path, rig.memory)
            let other = changed(good, covered: covered, hasDigest: hasDigest)
            try rig.memory.replace(path, with: other)
            for recovery in [RecoveryMode.normal, .strict, .pointInTime] {
                rig.options.recovery = recovery
                #expect { try rig.open() } throws: { error in
                    guard case .identity(let reason)? = error as? EngineError else { return false }
                    return reason.contains("version 77")
                }
                #expect(try contents(path, rig.memory) == other, "\(path)")
                rig.kill()
            }
            try rig.memory.replace(path, with: good)
        }
        rig.options.recovery = .normal
        try rig.open()
        #expect(try rig.database.scan(.everything).count == 41)
    }
}
