// The manifest on disk: MANIFEST-<n> and MANIFEST-<n>.mirror, identical, and CURRENT, which names
// n. Append-only: a snapshot of the state, then records of edits. When the edits grow long, a new
// pair with a fresh snapshot is written and CURRENT is replaced.
//
// Promises: `append` returns when the record is durable in both copies, and `state` is then what
// recovery would fold. Damage of either copy is repaired from the other, record by record; damage
// of both is a typed error (`.corrupt`), never an older state. After a failed sync nothing is
// written any more (`.poisoned`). Stated residue: rot of the last record in both copies at once
// cannot be told from an append that a power cut tore.
//
// Unchecked Sendable: no thread safety of its own. Its owner, the store, hands it to one job at a
// time.

package final class ManifestFile: @unchecked Sendable {
    package private(set) var state: ManifestState
    /// The n of MANIFEST-<n>.
    package private(set) var number: UInt64

    private let fileSystem: any FileSystem
    private let directory: String
    let identity: ManifestIdentity
    private let keys: KeyRing
    /// Of the present pair.
    private var cipher: FileCipher?
    /// See `ManifestRecord.encoded`.
    private var session: UInt32
    private var copies: [any File] = []
    /// Bytes in each copy; the next record goes here.
    private var end: UInt64 = 0
    private var snapshotEnd: UInt64 = 0
    private var ordinal: UInt64
    private var lastChecksum = Digest128.zero
    private var poison: String?
    /// CURRENT names the present pair, and nobody has synced that yet: both pairs hold the same
    /// state, and neither may change before.
    private var isCurrentDirty = false
    /// Bytes of edits beyond which the snapshot is written anew.
    private var rewriteBytes: UInt64
    private let rewriteBytesMin: UInt64

    package static let defaultRewriteBytes: UInt64 = 1 << 20

    private init(
        _ fileSystem: any FileSystem, _ directory: String, _ identity: ManifestIdentity,
        _ keys: KeyRing, state: ManifestState, number: UInt64, ordinal: UInt64,
        rewriteBytes: UInt64
    ) {
        self.fileSystem = fileSystem
        self.directory = directory
        self.identity = identity
        self.keys = keys
        session = keys.isPlain ? 0 : keys.drawNumber()
        self.state = state
        self.number = number
        self.ordinal = ordinal
        self.rewriteBytes = rewriteBytes
        self.rewriteBytesMin = rewriteBytes
    }

    // MARK: - Opening

    /// Writes a first manifest, or one that takes the place of whatever is there: a record that a
    /// peer supplied after `.corrupt`.
    package static func create(
        _ fileSystem: any FileSystem, directory: String, identity: ManifestIdentity,
        keys: KeyRing = .plain, state: ManifestState,
        rewriteBytes: UInt64 = defaultRewriteBytes
    ) throws(EngineError) -> ManifestFile {
        let files = try ManifestDirectory.read(fileSystem, directory)
        let manifest = ManifestFile(
            fileSystem, directory, identity, keys, state: state, number: files.highestNumber,
            ordinal: 0, rewriteBytes: rewriteBytes)
        try manifest.begin(number: files.highestNumber + 1)
        manifest.removeOthers()
        return manifest
    }

    /// What recovery found; nil from `recover` if no manifest was ever completed here.
    package struct Recovery {
        package var file: ManifestFile
        /// For the operator: what was damaged and is repaired, or torn and cut.
        package var notes: [ManifestNote]
    }

    package static func recover(
        _ fileSystem: any FileSystem, directory: String, identity: ManifestIdentity,
        keys: KeyRing = .plain, rewriteBytes: UInt64 = defaultRewriteBytes,
        isStrict: Bool = false
    ) throws(EngineError) -> Recovery? {
        let files = try ManifestDirectory.read(fileSystem, directory)
        guard let found = try files.choose(identity, keys) else { return nil }
        if isStrict { try found.refuseFlaws() }
        let state: ManifestState
        do throws(FileDamage) { state = try found.chain.folded() } catch {
            throw .corrupt(
                file: ManifestDirectory.name(found.number), offset: error.offset,
                reason: error.reason)
        }
        guard let last = found.chain.records.last else {
            brokenInvariant("a chain without records")
        }
        let manifest = ManifestFile(
            fileSystem, directory, identity, keys, state: state, number: found.number,
            ordinal: last.ordinal, rewriteBytes: rewriteBytes)
        let isWhole = found.chain.isIntact.allSatisfy { $0 } && found.isNamedByCurrent
        if isWhole {
            try manifest.reopen(found.chain, last)
            // In the present epoch, unless there is no space for that.
            if found.chain.cipher?.header.epoch ?? 0 != keys.currentEpoch {
                try manifest.rewrite()
            }
        } else {
            try manifest.begin(number: files.highestNumber + 1)
        }
        manifest.removeOthers()
        return Recovery(file: manifest, notes: found.notes)
    }

    /// Continues an undamaged pair. The last record is written again and synced before it counts:
    /// after a failed sync in an earlier life only the page cache may hold it, and the file's size.
    /// One copy at a time, so that the other holds the record meanwhile.
    private func reopen(_ chain: ManifestChain, _ last: ManifestRecord) throws(EngineError) {
        cipher = chain.cipher
        // An append that was torn and left no trace (else the pair were not whole) had a session
        // drawn like this one.
        while chain.records.contains(where: { $0.session == session }), cipher != nil {
            session &+= 1
        }
        do throws(FileError) {
            for path in ManifestDirectory.paths(directory, number) {
                let file = try fileSystem.open(path, .write)
                try file.truncate(to: UInt64(last.range.lowerBound))
                try file.writeAll(Array(chain.bytes[last.range]), at: UInt64(last.range.lowerBound))
                try file.sync()
                copies.append(file)
            }
        } catch { throw .file(error) }
        end = UInt64(chain.bytes.count)
        snapshotEnd = UInt64(chain.records.first?.range.upperBound ?? 0)
        lastChecksum = last.checksum
    }

    // MARK: - Appending

    /// Makes edits durable, all or none, and folds them into `state`.
    package func append(_ edits: [ManifestEdit]) throws(EngineError) {
        if let poison { throw .poisoned(reason: poison) }
        try syncCurrent()
        var next = state
        do throws(DecodingError) { try next.apply(edits) } catch {
            throw .invalid(reason: "a manifest edit contradicts the manifest: \(error.what)")
        }
        let record = ManifestRecord.encoded(
            .edits, ordinal: ordinal + 1, previous: lastChecksum,
            payload: ManifestEdit.encoded(edits), cipher: cipher, session: session)
        try write(record.bytes)
        try syncCopies()
        state = next
        ordinal += 1
        lastChecksum = record.checksum
        end += UInt64(record.bytes.count)
        guard end - snapshotEnd > rewriteBytes else { return }
        // These edits are durable whatever comes of the rewrite; trouble is the next append's.
        do throws(EngineError) { try rewrite() } catch { poison = poison ?? error.description }
    }

    /// Writes the state as a fresh snapshot in a new pair. Without space or descriptors for it the
    /// old pair goes on, and it is tried again when the edits have doubled.
    package func rewrite() throws(EngineError) {
        if let poison { throw .poisoned(reason: poison) }
        try syncCurrent()
        do throws(EngineError) {
            try begin(number: number + 1)
            removeOthers()
        } catch {
            guard poison == nil, error.isShortage else { throw error }
            removeOthers()
            rewriteBytes = (end - snapshotEnd) * 2
        }
    }

    /// A record that could be written to one copy only (no space) is taken back durably: the caller
    /// goes on without these edits, so recovery must not find them.
    private func write(_ bytes: [UInt8]) throws(EngineError) {
        do throws(FileError) {
            for copy in copies { try copy.writeAll(bytes, at: end) }
        } catch {
            // The next record has this one's ordinal and must not have its nonce.
            session &+= 1
            do throws(FileError) {
                for copy in copies {
                    try copy.truncate(to: end)
                    try copy.sync()
                }
            } catch let second { poison = second.description }
            throw .file(error)
        }
    }

    private func syncCopies() throws(EngineError) {
        do throws(FileError) {
            for copy in copies { try copy.sync() }
        } catch {
            poison = error.description
            throw .poisoned(reason: error.description)
        }
    }

    /// Moves the pair to `files.quarantine`, as evidence: the next open finds a manifest that is
    /// lost, and nothing is appended any more.
    package func setAside(_ files: StoreFiles) throws(EngineError) {
        poison = poison ?? "the manifest was set aside"
        do throws(FileError) {
            for name in ManifestDirectory.names(number)
            where fileSystem.exists(directory + "/" + name) {
                try fileSystem.rename(
                    directory + "/" + name,
                    to: files.quarantine + "/" + files.freeQuarantineName(name))
            }
            try fileSystem.syncDirectory(files.quarantine)
            try fileSystem.syncDirectory(directory)
        } catch { throw .file(error) }
    }

    // MARK: - A new pair

    /// Writes a pair that begins with a snapshot of `state`, makes it durable, and only then names
    /// it in CURRENT. Until that moment the pair before it stays the manifest. A lack of
    /// descriptors is told before CURRENT is touched, or made good by the next append.
    private func begin(number next: UInt64) throws(EngineError) {
        let cipher = keys.makeCipher(.manifest)
        let header = ManifestHeader(identity: identity, number: next, key: cipher?.header)
            .encoded()
        let snapshot = ManifestRecord.encoded(
            .snapshot, ordinal: ordinal, previous: header.checksum, payload: state.encoded(),
            cipher: cipher, session: session)
        let bytes = header.bytes + snapshot.bytes
        var files: [any File] = []
        do throws(FileError) {
            for path in ManifestDirectory.paths(directory, next) {
                if fileSystem.exists(path) { try fileSystem.unlink(path) }
                let file = try fileSystem.open(path, .create)
                try file.writeAll(bytes, at: 0)
                files.append(file)
            }
        } catch { throw .file(error) }
        do throws(FileError) {
            for file in files { try file.sync() }
            try fileSystem.syncDirectory(directory)
            try nameInCurrent(next)
        } catch {
            if error.isOutOfDescriptors { throw .file(error) }
            // Which pair CURRENT names is not known any more.
            poison = error.description
            throw .poisoned(reason: error.description)
        }
        copies = files
        self.cipher = cipher
        number = next
        end = UInt64(bytes.count)
        snapshotEnd = end
        lastChecksum = snapshot.checksum
        rewriteBytes = max(rewriteBytesMin, end)
    }

    /// As `FileSystem.replace`; what it throws for want of descriptors comes before the new content
    /// has its name.
    private func nameInCurrent(_ number: UInt64) throws(FileError) {
        let path = directory + "/" + ManifestDirectory.current
        let draft = path + ".new"
        if fileSystem.exists(draft) { try fileSystem.unlink(draft) }
        let file = try fileSystem.open(draft, .create)
        try file.writeAll(ManifestDirectory.currentBytes(naming: number), at: 0)
        try file.sync()
        try fileSystem.rename(draft, to: path)
        do throws(FileError) { try fileSystem.syncDirectory(directory) } catch {
            guard error.isOutOfDescriptors else { throw error }
            isCurrentDirty = true
        }
    }

    /// Makes CURRENT durable if that had to wait for a descriptor.
    private func syncCurrent() throws(EngineError) {
        guard isCurrentDirty else { return }
        do throws(FileError) { try fileSystem.syncDirectory(directory) } catch {
            if error.isOutOfDescriptors { throw .file(error) }
            poison = error.description
            throw .poisoned(reason: error.description)
        }
        isCurrentDirty = false
        removeOthers()
    }

    /// Removes pairs that CURRENT does not name. What cannot be removed now is at the next open.
    private func removeOthers() {
        guard !isCurrentDirty,
            let files = try? ManifestDirectory.read(fileSystem, directory)
        else { return }
        for name in files.names where !ManifestDirectory.names(number).contains(name) {
            try? fileSystem.unlink(directory + "/" + name)
        }
    }
}
