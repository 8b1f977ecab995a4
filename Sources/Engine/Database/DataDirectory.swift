// A node's data directory: who it belongs to, and that one process at a time uses it.
//
// File `node`: "MRTLNODE", u16 version, cluster id (varint length, UTF-8), u64 node id, then the
// XXH3-128 of all before. Written once, when the directory is made.

package struct NodeIdentity: Hashable, Sendable {
    package var cluster: String
    package var node: MemberID

    package init(cluster: String, node: MemberID) {
        self.cluster = cluster
        self.node = node
    }

    /// How the cluster names of embedded databases begin.
    package static let embeddedPrefix = "embedded-"

    private static let magic: UInt64 = 0x4544_4f4e_4c54_524d  // "MRTLNODE"
    private static let version: UInt16 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(NodeIdentity.magic)
        writer.write(NodeIdentity.version)
        writer.writePrefixed(cluster)
        writer.write(node.rawValue)
        writer.write(Digest128(of: writer.bytes))
        return writer.bytes
    }

    /// The version of a sound identity that this build cannot read; nil for any other bytes.
    static func unsupportedVersion(of bytes: [UInt8]) -> UInt16? {
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            var end = ByteReader(UnsafeRawBufferPointer(rebasing: raw.suffix(16)))
            guard let magic = try? reader.read(UInt64.self), magic == NodeIdentity.magic,
                let found = try? reader.read(UInt16.self), found != NodeIdentity.version,
                let digest = try? end.readDigest(),
                digest == Digest128(of: UnsafeRawBufferPointer(rebasing: raw.dropLast(16)))
            else { return nil }
            return found
        }
    }

    package init(decoding bytes: [UInt8]) throws(DecodingError) {
        let parsed = bytes.withUnsafeBytes { buffer -> Result<NodeIdentity, DecodingError> in
            do throws(DecodingError) { return .success(try NodeIdentity(buffer)) } catch {
                return .failure(error)
            }
        }
        self = try parsed.get()
    }

    private init(_ bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt64.self) == NodeIdentity.magic else {
            throw DecodingError("it is not a node's identity")
        }
        let version = try reader.read(UInt16.self)
        guard version == NodeIdentity.version else {
            throw DecodingError("identity version \(version) is not supported")
        }
        cluster = try reader.readPrefixedString(atMost: 256)
        node = MemberID(try reader.read(UInt64.self))
        let covered = UnsafeRawBufferPointer(rebasing: bytes[..<reader.offset])
        guard try reader.readDigest() == Digest128(of: covered) else {
            throw DecodingError("its checksum does not match")
        }
        try reader.expectEnd("an identity")
    }
}

/// An open, locked data directory.
package struct DataDirectory {
    package let fileSystem: any FileSystem
    package let path: String
    package let identity: NodeIdentity
    package let keys: KeyRing
    /// Released with the process, or with this value.
    package let lock: any FileLock
    /// What was found wrong and mended.
    package let notes: [String]

    private static let fileBytesMax: UInt64 = 4096

    /// Makes the directory if it is missing, locks it, and checks or records whose it is. With a
    /// nil `wanted` the directory's own identity counts; a new one gets `fallback`. With `isAlone`
    /// there is no replica to have its data back from: if that is gone, an error says so. With
    /// `rejoins` a new one is that of a node whose data was lost: it has no vote from the first.
    package static func open(
        _ fileSystem: any FileSystem, path: String, wanted: NodeIdentity?, fallback: NodeIdentity,
        isAlone: Bool, rejoins: Bool = false, keys: KeyRing = .plain
    ) throws(EngineError) -> DataDirectory {
        let lock = try engineError { () throws(FileError) in
            try fileSystem.createDirectory(path)
            return try fileSystem.lock(path + "/LOCK")
        }
        guard let lock else { throw .locked(path: path) }
        let (identity, notes) = try identity(
            fileSystem, path, wanted, fallback, rejoins: rejoins, keys)
        if let wanted, identity != wanted {
            throw .identity(
                reason: "\(path) belongs to node \(identity.node) of cluster "
                    + "\"\(identity.cluster)\", not to node \(wanted.node) of cluster "
                    + "\"\(wanted.cluster)\"; choose another directory or correct the ids")
        }
        let directory = DataDirectory(
            fileSystem: fileSystem, path: path, identity: identity, keys: keys, lock: lock,
            notes: notes)
        if isAlone { try directory.expectData() }
        return directory
    }

    private static func identity(
        _ fileSystem: any FileSystem, _ path: String, _ wanted: NodeIdentity?,
        _ fallback: NodeIdentity, rejoins: Bool, _ keys: KeyRing
    ) throws(EngineError) -> (NodeIdentity, notes: [String]) {
        let file = path + "/node"
        guard fileSystem.exists(file) else {
            // With `wanted`, what it names is compared with the manifest; an invented one never is.
            guard wanted != nil || !fileSystem.exists(path + "/group-0/CURRENT") else {
                throw .corrupt(
                    file: "node", reason: "it is missing beside data; restore it from a backup")
            }
            let new = wanted ?? fallback
            return (try write(new, fileSystem, path, rejoins: rejoins, keys), [])
        }
        // One byte more than it may have: a longer file is a damaged one.
        let bytes = try engineError { () throws(FileError) in
            let file = try fileSystem.open(file, .read)
            return try file.readBytes(at: 0, count: Int(min(file.size(), fileBytesMax + 1)))
        }
        do throws(DecodingError) { return (try NodeIdentity(decoding: bytes), []) } catch {
            if let version = NodeIdentity.unsupportedVersion(of: bytes) {
                throw .unsupported(version: version, of: file)
            }
            guard let wanted else {
                throw .corrupt(
                    file: "node", offset: 0, reason: "\(error); restore it from a backup")
            }
            return (
                try write(wanted, fileSystem, path, rejoins: rejoins, keys),
                ["node was damaged (\(error)); it is written anew"]
            )
        }
    }

    /// A new directory gets its hard state first: beside `node` it is missing only if it was lost.
    private static func write(
        _ new: NodeIdentity, _ fileSystem: any FileSystem, _ path: String, rejoins: Bool,
        _ keys: KeyRing
    ) throws(EngineError) -> NodeIdentity {
        let files = StoreFiles(fileSystem: fileSystem, directory: path + "/group-0")
        let isNew = try engineError { () throws(FileError) in
            guard fileSystem.exists(files.directory) else { return true }
            // A crash may have left a file that never got its name.
            return try fileSystem.list(files.directory).allSatisfy { $0.hasSuffix(".new") }
        }
        if isNew {
            try engineError { () throws(FileError) in
                try fileSystem.createDirectory(files.directory)
            }
            try HardState.create(
                fileSystem, files.hardState, keys: keys, isVoteTrusted: !rejoins)
        }
        try engineError { () throws(FileError) in
            try fileSystem.replace(path + "/node", with: new.encoded())
        }
        return new
    }

    /// Whoever has no replica must not find an empty store where data was.
    private func expectData() throws(EngineError) {
        guard !fileSystem.exists(group.hardState) else { return }
        let names = try engineError { () throws(FileError) in
            fileSystem.exists(group.log) ? try fileSystem.list(group.log) : []
        }
        guard !names.contains(where: { $0.hasSuffix(".seg") }) else { return }
        throw .corrupt(
            file: group.directory,
            reason: "its log and hard state are gone, although the directory was in use: restore "
                + "it from a backup, or choose an empty directory to start anew")
    }

    /// Files of the one replication group.
    package var group: StoreFiles {
        StoreFiles(fileSystem: fileSystem, directory: path + "/group-0", keys: keys)
    }
}
