// The file `state`. A change writes copies 0 and 1, syncs, may then be acted on, and writes 2 and 3
// behind it. The newest valid copy wins; but once 0 and 1 are both unreadable, what 2 and 3 say may
// be older than what this node promised, so its vote is not trusted until the cluster admits it
// again.
//
// Used by the consensus driver (term and vote) and by the log (cut, epoch, volatile page).

package final class HardState: @unchecked Sendable {
    // Unchecked: everything mutable is touched only under `lock`, which is held during the writes:
    // they are rare and must not overtake each other.
    private let lock = PlainLock()
    private let file: any File
    private var record: HardStateRecord
    private var counter: UInt64
    private var pageCounter: UInt64
    private var poison: String?
    /// The file did not exist before this open.
    package let wasCreated: Bool
    /// Which of the four copies could not be read.
    package let damagedCopies: [Int]
    /// Which of those hold their checksum and are not authentic.
    package let tamperedCopies: [Int]
    private let cipher: FileCipher?
    /// The volatile page as the last run left it.
    let foundPage: VolatilePage?
    private let mayHoldOldPages: Bool

    package var current: HardStateRecord { lock.withLock { record } }

    /// False if a vote could contradict one that this node gave and forgot.
    package var isVoteTrusted: Bool { lock.withLock { record.isVoteTrusted } }

    /// Opens or creates the file and counts this start, durably. `nonce` should be random. Throws
    /// `.wrongKey`, and leaves the file as it is, if a sector is encrypted with a key that `keys`
    /// does not have, and `.identity` if one is of another version; and `.corrupt`, with
    /// `isStrict`, if a copy is damaged. One that is created has no vote if the node `rejoins`.
    package static func open(
        _ fileSystem: any FileSystem, _ path: String, nonce: UInt64, keys: KeyRing = .plain,
        isStrict: Bool = false, rejoins: Bool = false
    ) throws(EngineError) -> HardState {
        let isNew = !fileSystem.exists(path)
        if isNew { try create(fileSystem, path, keys: keys, isVoteTrusted: !rejoins) }
        let file = try logIO { () throws(FileError) in try fileSystem.open(path, .write) }
        let state = try HardState(file, wasCreated: isNew, keys)
        if isStrict, let first = state.damagedCopies.first {
            let copies = state.damagedCopies.map(String.init).joined(separator: ", ")
            throw .corrupt(
                file: "state", offset: HardStateFormat.copyOffset(first),
                reason: "copies \(copies) of 0 to 3 are damaged" + StrictCheck.remedy)
        }
        // Slot by slot, the sync of the update between them, into the present epoch.
        state.renewPage()
        try state.update { record in
            record.bootCounter += 1
            record.nonce = nonce
        }
        state.renewPage()
        return state
    }

    /// What the file says, for tools: nothing is written, and nothing may be changed through it.
    static func read(_ fileSystem: any FileSystem, _ path: String, keys: KeyRing)
        throws(EngineError) -> HardState
    {
        let file = try logIO { () throws(FileError) in try fileSystem.open(path, .read) }
        return try HardState(file, wasCreated: false, keys)
    }

    /// The file gets its name only when it is whole, so a file without a valid copy is a damaged
    /// one.
    static func create(
        _ fileSystem: any FileSystem, _ path: String, keys: KeyRing = .plain,
        isVoteTrusted: Bool = true
    ) throws(EngineError) {
        var bytes = [UInt8](repeating: 0, count: Int(HardStateFormat.fileBytes))
        var record = HardStateRecord()
        record.isVoteTrusted = isVoteTrusted
        let copy = HardStateFormat.encode(
            record, counter: 0, cipher: keys.makeCipher(.state))
        for number in 0..<HardStateFormat.copies {
            let offset = Int(HardStateFormat.copyOffset(number))
            bytes.replaceSubrange(offset..<(offset + copy.count), with: copy)
        }
        try logIO { () throws(FileError) in try fileSystem.replace(path, with: bytes) }
    }

    private init(_ file: any File, wasCreated: Bool, _ keys: KeyRing) throws(EngineError) {
        self.file = file
        self.wasCreated = wasCreated
        cipher = keys.makeCipher(.state)
        var copies: [(record: HardStateRecord, counter: UInt64)?] = []
        var tampered: [Int] = []
        for number in 0..<HardStateFormat.copies {
            var isTampered = false
            copies.append(try HardState.readCopy(file, number, keys, &isTampered))
            if isTampered { tampered.append(number) }
        }
        tamperedCopies = tampered
        damagedCopies = copies.indices.filter { copies[$0] == nil }
        let newest = copies.compactMap { $0 }.max { $0.counter < $1.counter }
        record = newest?.record ?? HardStateRecord()
        counter = newest?.counter ?? 0
        if copies[0] == nil, copies[1] == nil { record.isVoteTrusted = false }
        var newestPage: VolatilePage?
        for slot in 0..<HardStateFormat.pageSlots {
            guard let page = try HardState.readPage(file, slot, keys) else { continue }
            if newestPage.map({ $0.counter < page.counter }) ?? true { newestPage = page }
        }
        foundPage = newestPage
        pageCounter = newestPage?.counter ?? 0
        mayHoldOldPages = !keys.isPlain && newestPage != nil
    }

    private static func readCopy(
        _ file: any File, _ number: Int, _ keys: KeyRing, _ isTampered: inout Bool
    ) throws(EngineError) -> (record: HardStateRecord, counter: UInt64)? {
        try readSector(file, HardStateFormat.copyOffset(number), keys, &isTampered) {
            (bytes) throws(DecodingError) in
            let (record, counter) = try HardStateFormat.decodeCopy(bytes)
            return (record: record, counter: counter)
        }
    }

    private static func readPage(_ file: any File, _ slot: Int, _ keys: KeyRing)
        throws(EngineError) -> VolatilePage?
    {
        var isTampered = false
        return try readSector(file, HardStateFormat.pageOffset(slot), keys, &isTampered) {
            (bytes) throws(DecodingError) in
            try HardStateFormat.decodePage(bytes)
        }
    }

    /// Nil for a sector that is unreadable or not authentic, in the cache and on the medium.
    private static func readSector<R>(
        _ file: any File, _ offset: UInt64, _ keys: KeyRing, _ isTampered: inout Bool,
        _ decode: ([UInt8]) throws(DecodingError) -> R
    ) throws(EngineError) -> R? {
        for fromMedium in [false, true] {
            guard
                var bytes = try? file.readBytes(
                    at: offset, count: HardStateFormat.sectorBytes, fromMedium: fromMedium)
            else { continue }
            if let version = HardStateFormat.unsupportedVersion(of: bytes) {
                throw .unsupported(version: version, of: file.path)
            }
            if let key = HardStateFormat.key(of: bytes) {
                let cipher: FileCipher = try keys.cipher(key, .state, path: file.path)
                guard let plain = HardStateFormat.decrypted(bytes, cipher) else {
                    isTampered = true
                    continue
                }
                bytes = plain
            }
            if let value = try? decode(bytes) {
                isTampered = false
                return value
            }
        }
        return nil
    }

    // MARK: Changes

    /// Durable when it returns: the node may vote, campaign or answer by it.
    package func saveVote(term: Term, vote: MemberID) throws(EngineError) {
        try update { record in
            invariant(term >= record.term, "a term goes back")
            invariant(
                term > record.term || record.vote == .none || record.vote == vote,
                "a second vote in term \(term)")
            record.term = term
            record.vote = vote
        }
    }

    /// Durable when it returns: frames above `cut` of an epoch below `epoch` are no more.
    func recordCut(_ cut: Position, epoch: UInt32) throws(EngineError) {
        try update { record in
            invariant(epoch > record.epoch, "a log epoch goes back")
            record.cut = cut.index
            record.cutTerm = cut.term
            record.epoch = epoch
        }
    }

    /// The hard state was lost together with what this node promised.
    package func distrustVote() throws(EngineError) {
        try update { $0.isVoteTrusted = false }
    }

    /// As `distrustVote`, with a boot counter that no earlier start can have had.
    package func beginAnew(bootCounter: UInt64) throws(EngineError) {
        try update { record in
            record.isVoteTrusted = false
            record.bootCounter = max(record.bootCounter, bootCounter)
        }
    }

    /// The cluster has admitted this node again (or it is a cluster of one).
    package func restoreVoteTrust() throws(EngineError) {
        try update { $0.isVoteTrusted = true }
    }

    private func update(_ change: (inout HardStateRecord) -> Void) throws(EngineError) {
        try lock.withLock { () throws(EngineError) in
            if let poison { throw .poisoned(reason: poison) }
            var changed = record
            change(&changed)
            let bytes = HardStateFormat.encode(
                changed, counter: counter + 1, cipher: cipher)
            do throws(FileError) {
                try file.writeAll(bytes, at: HardStateFormat.copyOffset(0))
                try file.writeAll(bytes, at: HardStateFormat.copyOffset(1))
                try file.sync()
                // From here on the change holds. The rest may reach the medium any time later.
                try file.writeAll(bytes, at: HardStateFormat.copyOffset(2))
                try file.writeAll(bytes, at: HardStateFormat.copyOffset(3))
            } catch {
                poison = error.description
                throw .poisoned(reason: error.description)
            }
            counter += 1
            record = changed
        }
    }

    // MARK: The volatile page

    /// Writes the page that was found once more, into the slot that is due, so that none of an old
    /// key epoch stays.
    private func renewPage() {
        guard let foundPage, mayHoldOldPages else { return }
        noteDurable(foundPage.position, epoch: foundPage.epoch)
    }

    /// Leaves a hint, unsynced, that the log is durable through `position`. The slots take turns,
    /// so a torn write costs one hint. A failure costs no more either, hence is not reported.
    func noteDurable(_ position: Position, epoch: UInt32) {
        lock.withLock { try? writePage(position, epoch) }
    }

    /// As `noteDurable`, durably.
    func recordDurable(_ position: Position, epoch: UInt32) throws(EngineError) {
        try lock.withLock { () throws(EngineError) in
            if let poison { throw .poisoned(reason: poison) }
            do throws(FileError) {
                try writePage(position, epoch)
                try file.sync()
            } catch {
                poison = error.description
                throw .poisoned(reason: error.description)
            }
        }
    }

    /// The caller has the lock.
    private func writePage(_ position: Position, _ epoch: UInt32) throws(FileError) {
        pageCounter += 1
        let page = VolatilePage(position: position, epoch: epoch, counter: pageCounter)
        let slot = Int(pageCounter % UInt64(HardStateFormat.pageSlots))
        try file.writeAll(
            HardStateFormat.encode(page, cipher: cipher), at: HardStateFormat.pageOffset(slot))
    }
}
