// Whose a data directory is, and that one process at a time uses it.
import Engine
import Testing

@Suite struct DataDirectoryTests {
    private let one = NodeIdentity(cluster: "birds", node: MemberID(1))
    private let two = NodeIdentity(cluster: "birds", node: MemberID(2))

    private func open(
        _ files: any FileSystem, wanted: NodeIdentity?, fallback: NodeIdentity? = nil
    ) throws -> DataDirectory {
        try DataDirectory.open(
            files, path: "a/data", wanted: wanted, fallback: fallback ?? one, isAlone: false)
    }

    private func message(_ body: () throws -> Void) -> String? {
        do { try body() } catch { return "\(error)" }
        return nil
    }

    @Test func `The identity's bytes never change`() throws {
        let bytes = NodeIdentity(cluster: "martlet", node: MemberID(0x0102_0304)).encoded()
        let text = bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
        #expect(
            text == "4d52544c4e4f4445" + "0100" + "076d6172746c6574" + "0403020100000000"
                + "5e3f3fb96409374b49a31208a629cb43")
        #expect(try NodeIdentity(decoding: bytes).cluster == "martlet")
    }

    @Test func `An identity that is damaged anywhere does not decode`() throws {
        let bytes = one.encoded()
        #expect(try NodeIdentity(decoding: bytes) == one)
        for place in bytes.indices {
            var damaged = bytes
            damaged[place] ^= 0x40
            #expect(throws: DecodingError.self) { try NodeIdentity(decoding: damaged) }
            #expect(throws: DecodingError.self) {
                try NodeIdentity(decoding: Array(bytes[..<place]))
            }
        }
        #expect(throws: DecodingError.self) { try NodeIdentity(decoding: bytes + [0]) }
    }

    @Test func `A new directory takes the identity that is wanted, and keeps it`() throws {
        let files = MemoryFileSystem(seed: 1)
        #expect(try open(files, wanted: two).identity == two)
        files.powerCut()
        #expect(try open(files, wanted: nil).identity == two)
        #expect(try open(files, wanted: two).identity == two)
        let refusal = message { _ = try open(files, wanted: one) }
        #expect(refusal?.contains("belongs to node 2") == true)
        let foreign = NodeIdentity(cluster: "fish", node: MemberID(2))
        let other = message { _ = try open(files, wanted: foreign) }
        #expect(other?.contains("\"birds\"") == true && other?.contains("\"fish\"") == true)
        // Refused, and nothing changed.
        #expect(try open(files, wanted: two).identity == two)
    }

    @Test func `Without a wanted identity a new directory takes the fallback`() throws {
        let files = MemoryFileSystem(seed: 1)
        #expect(try open(files, wanted: nil, fallback: two).identity == two)
        #expect(try open(files, wanted: nil, fallback: one).identity == two)
    }

    @Test func `A damaged identity is written anew if it is known, else an error names it`() throws
    {
        let files = MemoryFileSystem(seed: 1)
        _ = try open(files, wanted: one)
        files.flip("a/data/node", 12)
        let refusal = message { _ = try open(files, wanted: nil) }
        #expect(refusal?.contains("node is damaged") == true)
        #expect(try open(files, wanted: one).notes.count == 1)
        #expect(try open(files, wanted: nil).notes.isEmpty)
        #expect(try open(files, wanted: nil).identity == one)
    }

    @Test func `Where data was, whoever is alone does not begin with none`() throws {
        let rig = try DatabaseRig()
        try rig.database.put([1], [1])
        try rig.close()
        let group = DatabaseRig.group
        for name in try rig.memory.list(group + "/log") {
            try rig.memory.unlink(group + "/log/" + name)
        }
        try rig.memory.unlink(group + "/state")
        let refusal = message { try rig.open() }
        #expect(refusal?.contains("log and hard state are gone") == true, "\(refusal ?? "")")
        for name in try rig.memory.list(group) {
            try? rig.memory.unlink(group + "/" + name)
        }
        #expect(message { try rig.open() }?.contains("restore it") == true)
    }

    @Test func `No identity is invented beside data`() throws {
        let rig = try DatabaseRig()
        try rig.database.put([1], [1])
        try rig.close()
        try rig.memory.unlink(DatabaseRig.path + "/node")
        let refusal = message { try rig.open() }
        #expect(refusal?.contains("missing beside data") == true)
        #expect(!rig.memory.exists(DatabaseRig.path + "/node"))
    }

    @Test func `An identity of another database does not open its data`() throws {
        let rig = try DatabaseRig()
        try rig.database.put([1], [1])
        try rig.close()
        let foreign = NodeIdentity(cluster: "embedded-0", node: MemberID(1))
        try rig.memory.replace(DatabaseRig.path + "/node", with: foreign.encoded())
        let refusal = message { try rig.open() }
        #expect(refusal != nil)
    }

    @Test func `An embedded database does not open the directory of a node`() throws {
        let rig = try DatabaseRig()
        try rig.close()
        let state = DatabaseRig.path + "/group-0/state"
        let before = try rig.memory.readAll(state, limit: 1 << 20)
        try rig.memory.replace(DatabaseRig.path + "/node", with: one.encoded())
        let refusal = message { try rig.open() }
        #expect(refusal?.contains("belongs to node 1 of cluster \"birds\"") == true)
        #expect(try rig.memory.readAll(state, limit: 1 << 20) == before)
    }

    @Test func `A directory has one owner at a time`() throws {
        let directory = try TemporaryDirectory()
        let files = POSIXFileSystem()
        var first: DataDirectory? = try DataDirectory.open(
            files, path: directory.path, wanted: one, fallback: one, isAlone: false)
        #expect(first?.identity == one)
        let refusal = message {
            _ = try DataDirectory.open(
                files, path: directory.path, wanted: one, fallback: one, isAlone: false)
        }
        #expect(refusal?.contains("in use by another process") == true)
        first = nil
        let second = try DataDirectory.open(
            files, path: directory.path, wanted: one, fallback: one, isAlone: false)
        #expect(second.identity == one)
    }

    @Test func `A crash while a directory is made leaves none or a whole one`() throws {
        for step in 0..<24 {
            for seed in 1...6 as ClosedRange<UInt64> {
                let files = MemoryFileSystem(seed: seed)
                files.stop(after: step)
                let made = try? open(files, wanted: one)
                files.powerCut()
                let after = try open(files, wanted: nil, fallback: two)
                #expect(after.identity == one || (made == nil && after.identity == two))
                // A directory with an identity has hard state, so that its loss shows.
                #expect(files.exists("a/data/group-0/state"))
            }
        }
    }

    /// Wherever it dies: a start that does not say so again must not make a trusted member of it.
    @Test(arguments: 1...40)
    func `A node that rejoins has no vote from the first`(change: Int) throws {
        let files = MemoryFileSystem(seed: UInt64(change))
        let dying = InterruptedFileSystem(files, diesAt: change)
        do {
            let directory = try DataDirectory.open(
                dying, path: "a/data", wanted: one, fallback: one, isAlone: false, rejoins: true)
            try dying.unlink(directory.group.hardState)
            let state = try HardState.open(
                dying, directory.group.hardState, nonce: 1, rejoins: true)
            try state.beginAnew(bootCounter: 1_000)
        } catch {}
        files.powerCut()
        let path = StoreFiles(fileSystem: files, directory: "a/data/group-0").hardState
        guard files.exists(path) else { return }
        #expect(try !HardState.open(files, path, nonce: 2).isVoteTrusted)
    }
}
