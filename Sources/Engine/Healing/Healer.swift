// Mends what is damaged on this node: the ladder of DESIGN section 6. Readers come here through
// `BlockMender` when a block does not verify; the owner comes here for edits that swap a healed
// file in; the heal worker rewrites tables.
//
// Any thread may call it. A read that finds damage gets right bytes or a typed error, whatever
// happens to the hint; a hint goes only after the new generation is in the manifest and was read
// back from the medium.
import Synchronization

package final class Healer: BlockMender, Sendable {
    let files: StoreFiles
    let options: HealOptions
    /// How rewritten tables are stored.
    let compression: CompressionPolicy
    let tables: TableDirectory
    package let hints: HealHints
    package let ledger: Ledger
    private let environment: HealEnvironment

    private struct State {
        var repair: (any RepairSource)?
        var counters = HealCounters()
        var repaired = RepairedBlocks()
        /// New generations that are being written.
        var claimed: Set<String> = []
        /// Generations that a heal replaced and that stay until one reads back clean.
        var replaced: [TableID: [TableHandle]] = [:]
        /// Damaged files that go to quarantine once nobody reads them.
        var evidence: Set<String> = []
        var fruitless = FruitlessQuestions()
    }

    private let state = Mutex(State())

    init(
        files: StoreFiles, options: HealOptions, compression: CompressionPolicy,
        tables: TableDirectory, environment: HealEnvironment
    ) throws(EngineError) {
        self.files = files
        self.options = options
        self.compression = compression
        self.tables = tables
        self.environment = environment
        hints = try HealHints(files.fileSystem, path: files.hints)
        ledger = try Ledger(files.fileSystem, path: files.ledger)
    }

    /// Nothing is recorded or healed from here on. Whoever still reads may find damage; the files
    /// belong to the next who opens the directory, and so do the ends that records go to.
    func endRecords() {
        hints.end()
        ledger.end()
    }

    /// The store is gone. Tables keep their mender, so it must not keep them.
    func end() {
        endRecords()
        tables.removeAll()
        _ = state.withLock { state in
            defer { state.replaced = [:] }
            return state.replaced
        }
        setRepairSource(nil)
    }

    /// Where clean blocks come from; nil while there are no replicas.
    package func setRepairSource(_ source: (any RepairSource)?) {
        state.withLock { $0.repair = source }
    }

    /// A replica is within reach that was not: it may have what nobody had.
    package func noteReplica() { state.withLock { $0.fruitless.forget() } }

    private var repair: (any RepairSource)? { state.withLock { $0.repair } }

    var wallClock: UInt64 { environment.clock() }

    package var counters: HealCounters { state.withLock { $0.counters } }

    // MARK: the read path

    package func mend(
        _ address: BlockAddress, record: TableRecord, expected: Digest128?, reason: String
    ) throws(EngineError) -> [UInt8] {
        if let kept = repaired(address, record, expected) { return kept.bytes }
        if let clean = confirm(address), BlockProof.holds(clean, address, record, expected) {
            state.withLock { $0.counters.transient += 1 }
            return clean
        }
        noteLost(address, reason)
        let block = ask(.block(address)) {
            fetch(address, record, expected, deadline: options.inlineDeadlineMilliseconds)
        }
        guard let block else {
            state.withLock { $0.counters.blocksLost += 1 }
            throw .blockLost(address, reason: "\(reason); no replica supplied it in time")
        }
        keep(block, for: address)
        return block.bytes
    }

    /// Asks replicas, unless none of them knew a moment ago.
    private func ask<Answer>(
        _ question: FruitlessQuestions.Question, _ body: () -> Answer?
    ) -> Answer? {
        let now = environment.clock()
        guard state.withLock({ $0.fruitless.mayAsk(question, now: now) }) else { return nil }
        let answer = body()
        let end = environment.clock()
        state.withLock { $0.fruitless.note(question, isAnswered: answer != nil, now: end) }
        return answer
    }

    package func noteDamage(_ table: TableID, block: BlockOrdinal?, reason: String) {
        record(.lost, table, block, reason)
    }

    package func noteMissing(_ table: TableID) {
        record(.missing, table, nil, HealHint.Reason.missing.name)
    }

    /// The table's file is of another key epoch than new files are: it is written anew when
    /// nothing else is to do.
    func noteOldKey(_ table: TableID) {
        guard options.isAutomatic, hints.add(table, .oldKey, nil) == .table else { return }
        environment.wake()
    }

    private func noteLost(_ address: BlockAddress, _ reason: String) {
        // The leaf list stands for the whole table: its ordinal is known to nobody yet.
        let block = address.ordinal == .leaves ? nil : address.ordinal
        record(.lost, address.table, block, reason)
    }

    /// Hints damage; the first hint of a table shows in the ledger.
    private func record(
        _ reason: HealHint.Reason, _ table: TableID, _ block: BlockOrdinal?, _ text: String
    ) {
        guard options.isAutomatic, hints.add(table, reason, block) == .table else { return }
        ledger.append(
            LedgerRow(
                time: environment.clock(), file: fileName(table),
                blocks: block.map { [$0.rawValue] } ?? [], reason: text, state: .detected),
            sync: false)
        environment.wake()
    }

    /// The block as the medium has it now, past the page cache; nil if it is really bad.
    private func confirm(_ address: BlockAddress) -> [UInt8]? {
        guard options.isAutomatic, let handle = tables.handle(address.table) else { return nil }
        do {
            if address.ordinal == .leaves {
                // Asked for by whoever is opening the table: there is no reader yet.
                let file = try files.fileSystem.open(files.tables + "/" + handle.fileName, .read)
                return try TableReader.leavesOnMedium(
                    file, handle.record, keys: files.keys)
            }
            return try handle.reader(io: .blocking).canonicalBlock(
                address.ordinal, fromMedium: true)
        } catch {
            return nil
        }
    }

    /// A block from a replica, proved before anybody sees or counts it.
    func fetch(
        _ address: BlockAddress, _ record: TableRecord, _ expected: Digest128?, deadline: UInt64
    ) -> RepairedBlock? {
        let block = repair?.block(
            address.table, digest: record.digest, ordinal: address.ordinal, deadline: deadline
        ) { block in
            if BlockProof.holds(block.bytes, address, record, expected) { return true }
            state.withLock { $0.counters.refused += 1 }
            environment.note("member \(block.donor) gave wrong bytes for \(address)")
            return false
        }
        guard let block else { return nil }
        state.withLock {
            $0.counters.blocksFetched += 1
            $0.counters.bytesFetched += UInt64(block.bytes.count)
        }
        return block
    }

    /// A block that a replica gave earlier.
    func repaired(_ address: BlockAddress, _ record: TableRecord, _ expected: Digest128?)
        -> RepairedBlock?
    {
        guard let block = state.withLock({ $0.repaired[address] }),
            BlockProof.holds(block.bytes, address, record, expected)
        else { return nil }
        return block
    }

    /// Only while a heal is due, which is what forgets it.
    private func keep(_ block: RepairedBlock, for address: BlockAddress) {
        guard hints.hint(address.table) != nil else { return }
        state.withLock { $0.repaired.keep(block, for: address) }
    }

    /// A peer answers a read that this node cannot, for want of `lost`.
    func readElsewhere(
        _ key: [UInt8], lost: BlockAddress, at index: LogIndex, now: ClockMilliseconds
    ) -> RemoteRead? {
        ask(.read(lost)) {
            repair?.read(
                key, at: index, now: now, deadline: 4 * options.inlineDeadlineMilliseconds)
        }
    }

    /// The table is whole again, or not needed any more. What it had before a rotation was sound:
    /// no evidence of anything, and readable with a key that is to go.
    func drop(_ table: TableID, afterRotation: Bool = false) {
        hints.done(table)
        let old = state.withLock { state in
            state.repaired.forget(table)
            return state.replaced.removeValue(forKey: table) ?? []
        }
        for handle in old { release(handle, asEvidence: options.keepEvidence && !afterRotation) }
    }

    /// Bytes of repaired blocks in memory.
    package var repairedBytes: Int { state.withLock { $0.repaired.byteCount } }

    /// Relative to the node's data directory.
    func fileName(_ id: TableID) -> String {
        let generation = tables.handle(id)?.generation ?? 0
        let group = files.directory.split(separator: "/").last.map(String.init) ?? ""
        return "\(group)/sst/\(TableHandle.fileName(id, generation: generation))"
    }

    // MARK: the worker

    /// Rewrites the next damaged table, if one is due: the whole file, block by block, each from
    /// here if it reads clean from the medium, else from any replica. Called by a job.
    package func healNext(now: UInt64) -> HealResult? {
        guard options.isAutomatic, let hint = hints.take(now: now) else { return nil }
        guard let handle = tables.handle(hint.table), !handle.isObsolete else {
            drop(hint.table)
            return nil
        }
        let started = environment.clock()
        if hint.reason == .oldKey, hint.blocks.isEmpty {
            // Its last rotation may have been cut short, or have read back damaged: then the
            // generation before is kept.
            if isOfPresentKey(handle), isClean(handle) {
                drop(hint.table, afterRotation: true)
                return nil
            }
        } else if isClean(handle) {
            closeAsClean(handle, hint)
            return nil
        }
        do throws(EngineError) {
            var rewrite = TableRewrite(
                healer: self, handle: handle, isRotation: hint.reason == .oldKey)
            let local = try rewrite.run()
            return HealResult(
                hint: hint, record: handle.record, oldGeneration: UInt32(handle.generation),
                outcome: .written(local, rewrite.origin), startedAt: started)
        } catch {
            return HealResult(
                hint: hint, record: handle.record, oldGeneration: UInt32(handle.generation),
                outcome: .failed(error), startedAt: started)
        }
    }

    /// The file is there, and every byte of it reads clean from the medium: what was seen was the
    /// page cache's, or was healed by a heal whose end a crash forgot.
    private func isClean(_ handle: TableHandle) -> Bool {
        guard files.fileSystem.exists(files.tables + "/" + handle.fileName) else { return false }
        do throws(EngineError) {
            return try handle.reader(io: .blocking).verify(fromMedium: true).isClean
        } catch {
            return false
        }
    }

    private func isOfPresentKey(_ handle: TableHandle) -> Bool {
        do {
            let file = try files.fileSystem.open(files.tables + "/" + handle.fileName, .read)
            return try TableImport.localHeader(file).keyEpoch == files.keys.currentEpoch
        } catch {
            return false
        }
    }

    private func closeAsClean(_ handle: TableHandle, _ hint: HealHint) {
        // Its reader may go without a filter, or over a file that was missing.
        handle.closeReader()
        drop(hint.table)
        if !isOfPresentKey(handle) { noteOldKey(hint.table) }
        state.withLock { $0.counters.transient += 1 }
        ledger.append(
            LedgerRow(
                time: environment.clock(), file: fileName(hint.table),
                blocks: hint.blocks.sorted().map(\.rawValue), reason: hint.reason.name,
                source: "local", state: .healedLocal,
                detail: "every block reads clean from the medium"),
            sync: true)
    }

    /// Writes a table of which this node has nothing usable, from replicas.
    func fetchTable(_ record: TableRecord, generation: UInt32) throws(EngineError) -> BuiltTable {
        var rewrite = TableRewrite(healer: self, record: record)
        return BuiltTable(record: record, local: try rewrite.run(generation: generation))
    }

    /// Reserves the next free generation for a new file: two heals of a table, or a heal and the
    /// fetch of its proved content, never write the same one.
    func claim(_ id: TableID, from wanted: UInt32) -> UInt32 {
        state.withLock { state in
            var generation = wanted
            while true {
                let name = TableHandle.fileName(id, generation: UInt64(generation))
                if !files.fileSystem.exists(files.tables + "/" + name),
                    state.claimed.insert(name).inserted
                {
                    return generation
                }
                generation += 1
            }
        }
    }

    func endClaim(_ fileName: String) {
        _ = state.withLock { $0.claimed.remove(fileName) }
    }

    /// The owner could not swap the file in, or it was never written. The ledger hears of the
    /// failures number 1, 2, 4, 8 and so on: the hint stays and is tried again.
    func gaveUp(_ result: HealResult, _ error: EngineError, now: UInt64) {
        let failures = hints.failed(result.hint.table, now: now)
        state.withLock { $0.counters.failed += 1 }
        guard failures > 0, failures & (failures - 1) == 0 else { return }
        ledger.append(
            row(
                result, state: isIrreparable(error, failures) ? .irreparable : .fetching,
                detail: "\(error); will be tried again"), sync: false)
    }

    /// No replica has had it for a while. One that was away may still bring it.
    private func isIrreparable(_ error: EngineError, _ failures: Int) -> Bool {
        switch error {
        case .blockLost, .tableLost: return failures >= Healer.failuresOfIrreparable
        default: return false
        }
    }

    private static let failuresOfIrreparable = 4

    /// The new generation is in the manifest: verify it on the medium, then close the case and give
    /// `old` up.
    func finish(_ result: HealResult, _ fresh: TableHandle, old: TableHandle?) -> EngineError? {
        if let old {
            state.withLock { $0.replaced[old.id, default: []].append(old) }
        }
        guard isClean(fresh) else {
            return .corrupt(
                file: fileName(result.hint.table), reason: "the healed file reads back damaged")
        }
        // A change of key is no damage, as long as nothing else came to light, then or meanwhile.
        let reason = hints.hint(result.hint.table)?.reason ?? result.hint.reason
        var isRotation = reason == .oldKey && damagedBlocks(result).isEmpty
        if case .written(_, let origin) = result.outcome {
            isRotation = isRotation && origin.fetched == 0
            if !isRotation { ledger.append(row(result, origin), sync: true) }
        }
        drop(result.hint.table, afterRotation: isRotation)
        state.withLock {
            if isRotation { $0.counters.rotated += 1 } else { $0.counters.healed += 1 }
        }
        return nil
    }

    /// The generation before is not needed any more: its file goes, or moves to quarantine as
    /// evidence, when nobody reads it.
    private func release(_ old: TableHandle, asEvidence: Bool) {
        if asEvidence { state.withLock { _ = $0.evidence.insert(old.fileName) } }
        old.markObsolete()
        old.closeReader()
    }

    /// Removes a table's file. One that stays is an orphan, which the next open removes.
    func remove(_ fileName: String) {
        let isEvidence = state.withLock { $0.evidence.remove(fileName) != nil }
        let path = files.tables + "/" + fileName
        do throws(FileError) {
            if isEvidence {
                try files.fileSystem.rename(path, to: files.quarantine + "/" + fileName)
            } else {
                try files.fileSystem.unlink(path)
            }
        } catch {
            if isEvidence { environment.note("keeping \(fileName) as evidence: \(error)") }
        }
    }

    private func row(_ result: HealResult, _ origin: BlockOrigin) -> LedgerRow {
        row(
            result, state: origin.fetched > 0 ? .healedReplica : .healedLocal,
            source: origin.fetched > 0 ? "replica" : "local",
            peer: origin.donor.rawValue, fetched: origin.bytesFetched,
            detail: origin.detail)
    }

    private func row(
        _ result: HealResult, state: LedgerRow.State, source: String = "", peer: UInt64 = 0,
        fetched: UInt64 = 0, detail: String
    ) -> LedgerRow {
        let now = environment.clock()
        return LedgerRow(
            time: now, file: fileName(result.hint.table), blocks: damagedBlocks(result),
            reason: result.hint.reason.name, source: source, peer: peer, bytesFetched: fetched,
            durationMilliseconds: now > result.startedAt ? now - result.startedAt : 0,
            state: state, detail: detail)
    }

    /// Those that were hinted, those that were hinted since, and those that had to be fetched.
    private func damagedBlocks(_ result: HealResult) -> [UInt32] {
        var blocks = result.hint.blocks
        if let hint = hints.hint(result.hint.table) { blocks.formUnion(hint.blocks) }
        if case .written(_, let origin) = result.outcome {
            blocks.formUnion(origin.fetchedBlocks)
        }
        return blocks.sorted().map(\.rawValue)
    }

    // MARK: what the operator should know

    func noteTrouble(_ text: String) { environment.note(text) }

    func noteDivergence(_ text: String) {
        state.withLock { $0.counters.divergences += 1 }
        ledger.append(
            LedgerRow(
                time: environment.clock(), file: "", blocks: [], reason: "divergent",
                state: .detected, detail: text),
            sync: true)
        environment.note(text)
    }

    func halt(_ reason: String) { environment.halt(reason) }
}

/// What the healer needs from its node.
package struct HealEnvironment: Sendable {
    /// Wall clock, milliseconds.
    package var clock: @Sendable () -> UInt64
    /// A hint was recorded: look for work soon.
    package var wake: @Sendable () -> Void
    package var note: @Sendable (String) -> Void
    package var halt: @Sendable (String) -> Void

    package init(
        clock: @escaping @Sendable () -> UInt64, wake: @escaping @Sendable () -> Void,
        note: @escaping @Sendable (String) -> Void, halt: @escaping @Sendable (String) -> Void
    ) {
        self.clock = clock
        self.wake = wake
        self.note = note
        self.halt = halt
    }
}

package struct HealCounters: Sendable {
    package var transient: UInt64 = 0
    package var blocksFetched: UInt64 = 0
    package var bytesFetched: UInt64 = 0
    package var blocksLost: UInt64 = 0
    /// Blocks that a replica gave and that were not what the log says.
    package var refused: UInt64 = 0
    package var healed: UInt64 = 0
    package var failed: UInt64 = 0
    /// Tables written anew for a new key.
    package var rotated: UInt64 = 0
    package var divergences: UInt64 = 0
}

/// How a rewrite of a damaged table went.
package struct HealResult: Sendable {
    package enum Outcome: Sendable {
        /// A new generation is on disk, synced, equal to the manifest's digest.
        case written(LocalTable, BlockOrigin)
        case failed(EngineError)
    }

    package var hint: HealHint
    package var record: TableRecord
    package var oldGeneration: UInt32
    package var outcome: Outcome
    package var startedAt: UInt64
}

extension Healer {
    func hasDueHint(now: UInt64) -> Bool { options.isAutomatic && hints.hasDue(now: now) }

    /// When a heal is due next, of those that are not due yet.
    func nextTry(after now: UInt64) -> UInt64? {
        options.isAutomatic ? hints.nextTry(after: now) : nil
    }
}
