// The installed manifest: one record of edits at a time, written by a job, folded into memory when
// durable. Stand-ins move S in segment order; job entries move F in log order.

/// A job entry that is applied and whose edit is not installed yet.
struct PendingEdit {
    enum Kind {
        case started(CompactionSpec)
        case sealed(SealRecord)
        case compacted(CompactedRecord)
        case cancelled(CancelledRecord)
    }

    var index: LogIndex
    var kind: Kind
    /// Inputs that leave the tree with it.
    var removed: [TableRecord] = []

    /// Those that it names.
    var tables: [TableRecord] {
        switch kind {
        case .started, .cancelled: return []
        case .sealed(let record): return record.tables
        case .compacted(let record): return record.tables
        }
    }
}

/// An input of a finished job, kept until every member is past it.
struct ObsoleteTable {
    var id: TableID
    /// The frontier that makes it needless.
    var after: LogIndex
}

/// One record for the manifest file, and what it concludes here.
package struct Installation: Sendable {
    enum Conclusion: Sendable {
        case flushed
        case job(LogIndex)
        case healed(HealResult)
    }

    var edits: [ManifestEdit]
    var conclusion: Conclusion

    /// The edits name files that were not named before, and whose names nobody has synced yet.
    var namesFiles: Bool {
        edits.contains { edit in
            switch edit {
            case .flushInstalled: return true
            case .sealInstalled(_, _, let local, _), .jobInstalled(_, _, let local):
                return !local.isEmpty
            default: return false
            }
        }
    }
}

extension Store {
    /// Starts the next edit that is ready: a flushed segment first, since it frees memory.
    func installNext() {
        guard !isInstalling, retryInstallAt <= now else { return }
        if let next = nextFlush() ?? nextJobEdit() ?? nextHeal() { install(next) }
    }

    private func nextFlush() -> Installation? {
        guard let segment = frozen.first, segment.state == .flushed, durable >= segment.last else {
            return nil
        }
        var edits: [ManifestEdit] = []
        if !segment.isEmpty {
            let standIn = StandIn(
                segment: segment.bounds, tables: segment.output.map(\.record))
            edits.append(
                .flushInstalled(
                    standIn, local: segment.output.map(\.local), horizon: segment.horizon))
        }
        edits.append(.flushedThrough(segment.tail))
        if segment.settings != installed.settings { edits.append(.settings(segment.settings)) }
        if segment.membership != installed.membership {
            edits.append(.membership(segment.membership))
        }
        let recorded = installed.jobEntries.last?.index ?? installed.frontier
        for entry in openJobEntries where entry.index > recorded && entry.index <= segment.last {
            edits.append(.jobEntry(entry))
        }
        return Installation(edits: edits, conclusion: .flushed)
    }

    private func nextJobEdit() -> Installation? {
        guard let pending = pendingEdits.first, let edit = edit(for: pending) else { return nil }
        return Installation(edits: [edit], conclusion: .job(pending.index))
    }

    private func edit(for pending: PendingEdit) -> ManifestEdit? {
        switch pending.kind {
        case .started(let spec): return .jobStarted(at: pending.index, spec)
        case .cancelled(let record): return .jobCancelled(at: pending.index, record)
        case .sealed(let record): return sealEdit(pending.index, record)
        case .compacted(let record):
            if jobStates[record.job]?.spec.action == .move {
                return .jobInstalled(at: pending.index, record, local: [])
            }
            if let state = jobStates[record.job], state.isUndecided {
                switch state.phase {
                case .retry where !state.foundDiskFull:
                    // Its attempt failed here, maybe since inputs are lost that nobody has any
                    // more; the outputs are proved, and others have them.
                    jobStates[record.job]?.phase = .failed
                case .again: break  // Meanwhile somebody may come back who has them.
                default: return nil
                }
            }
            guard let local = outputs(record.tables) else { return nil }
            return .jobInstalled(at: pending.index, record, local: local)
        }
    }

    private func sealEdit(_ index: LogIndex, _ record: SealRecord) -> ManifestEdit? {
        guard let standIn = installed.standIns.first, standIn.segment.last == record.last else {
            return nil
        }
        if standIn.tables == record.tables {
            return .sealInstalled(at: index, record, local: [], horizon: .zero)
        }
        // The own flush differs from the proved one, which replaces it.
        guard let local = outputs(record.tables) else { return nil }
        return .sealInstalled(at: index, record, local: local, horizon: .zero)
    }

    /// Files of the tables that the log names; starts fetching what this node lacks or computed
    /// differently.
    private func outputs(_ records: [TableRecord]) -> [LocalTable]? {
        var local: [LocalTable] = []
        for record in records {
            if let handle = tables.handle(record.id), handle.record == record {
                local.append(handle.local)
            } else if let table = fetchedTables[record.id], table.record == record {
                local.append(table.local)
            } else {
                fetch(record)
            }
        }
        return local.count == records.count ? local : nil
    }

    private func fetch(_ record: TableRecord) {
        guard fetching.insert(record.id).inserted else { return }
        let own = tables.handle(record.id)
        if own != nil {
            healer.noteDivergence(
                "table \(record.id) differs from the log; fetching the proved one")
        }
        let generation = UInt32(own?.generation ?? 0) + 1
        let healer = self.healer
        jobs.submit(.heal) { [weak self] in
            let result: Result<BuiltTable, EngineError>
            do throws(EngineError) {
                result = .success(try healer.fetchTable(record, generation: generation))
            } catch {
                result = .failure(error)
            }
            self?.post(.fetched(record.id, result))
        }
    }

    func fetched(_ id: TableID, _ result: Result<BuiltTable, EngineError>) {
        fetching.remove(id)
        switch result {
        case .success(let table):
            // The differing file stays until the edit that replaces it: a crash must find it. And
            // references lead into blob files of the same making: all change together.
            fetchedTables[id] = table
        case .failure(let error):
            healer.noteTrouble("fetching table \(id): \(error)")
            failures.install = error
            retryInstallAt = now + Store.retryMilliseconds
            if case .compacted(let record) = pendingEdits.first?.kind,
                record.tables.contains(where: { $0.id == id })
            {
                // Nothing is lost: the job's inputs are in the tree until this edit.
                failures.install = .busy(
                    reason: "an output of job \(record.job) is not here yet; \(error)")
                giveNewAttempts(record.job)
            }
        }
    }

    private func install(_ next: Installation) {
        var installation = next
        if options.recordsBounds {
            installation.edits.append(
                .bounds(
                    LogBounds(
                        index: appliedTail.position.index, sequence: appliedSequence)))
        }
        isInstalling = true
        if case .flushed = installation.conclusion { installingSegment = frozen.first?.last }
        let file = manifestFile
        let files = self.files
        let written = installation
        jobs.submit(.flush) { [weak self] in
            var failure: EngineError?
            do throws(EngineError) {
                if written.namesFiles { try Store.syncNames(files) }
                try file.append(written.edits)
            } catch {
                failure = error
            }
            self?.post(.installed(written, failure))
        }
    }

    /// Every file that an edit names was synced; now its name is, too. After a failure no later
    /// sync can be believed, unless there was no descriptor to sync with.
    private static func syncNames(_ files: StoreFiles) throws(EngineError) {
        do throws(FileError) { try files.fileSystem.syncDirectory(files.tables) } catch {
            if error.isOutOfDescriptors { throw .file(error) }
            throw .poisoned(reason: error.description)
        }
    }

    func didInstall(_ installation: Installation, _ error: EngineError?) {
        isInstalling = false
        installingSegment = nil
        if let error { return installFailed(installation, error) }
        do throws(DecodingError) {
            try installed.apply(installation.edits)
        } catch {
            brokenInvariant("an edit contradicts the manifest: \(error)")
        }
        switch installation.conclusion {
        case .flushed: frozen.removeFirst()
        case .job(let index): didInstallJob(index)
        case .healed(let result): didSwap(result)
        }
        publishView()
    }

    private func installFailed(_ installation: Installation, _ error: EngineError) {
        if case .healed(let result) = installation.conclusion {
            healer.gaveUp(result, error, now: now)
            discardHealed(result, error)
        }
        healer.noteTrouble("the manifest cannot be written: \(error)")
        failures.install = error
        retryInstallAt = now + Store.retryMilliseconds
        // A failed sync leaves the disk's state unknown: only a new open may find out.
        if case .poisoned = error { healer.halt("the manifest cannot be written: \(error)") }
    }

    private func didInstallJob(_ index: LogIndex) {
        invariant(pendingEdits.first?.index == index, "job entries install in log order")
        let pending = pendingEdits.removeFirst()
        openJobEntries.removeAll { $0.index <= index }
        for table in pending.removed {
            obsolete.append(ObsoleteTable(id: table.id, after: index))
        }
        adoptFetched(pending.tables)
        switch pending.kind {
        case .started, .cancelled: break
        case .sealed(let record): compare(record.leader)
        case .compacted(let record):
            if let done = jobStates.removeValue(forKey: record.job), done.spec.action == .move {
                place(done.spec)
            }
            compare(record.leader)
        }
        releaseObsolete()
    }

    /// The manifest names them now.
    private func adoptFetched(_ records: [TableRecord]) {
        for record in records {
            guard let table = fetchedTables.removeValue(forKey: record.id) else { continue }
            let local = installed.local[record.id]
            if local == table.local {
                // Of the differing file, which this edit replaced.
                tables.handle(record.id)?.markObsolete()
                adopt(table)
            } else if local?.generation != table.local.generation {
                // It was computed here in the meantime, in a file of another name.
                makeHandle(table.record, table.local).markObsolete()
            }
        }
    }

    /// The tables of a move are at their new level from now on; who has pinned them sees them at
    /// the old one.
    private func place(_ spec: CompactionSpec) {
        for input in spec.inputs {
            guard let handle = tables.handle(input.id) else {
                brokenInvariant("live table \(input.id) has no handle")
            }
            tables.set(handle.placed(at: spec.outputLevel))
        }
    }

    /// Every member's frontier has reached `index`.
    package func noteMinimumFrontier(_ index: LogIndex) {
        guard index > minimumFrontier else { return }
        minimumFrontier = index
        releaseObsolete()
    }

    private func releaseObsolete() {
        obsolete.removeAll { table in
            guard table.after <= minimumFrontier else { return false }
            discard(table.id)
            return true
        }
    }

    // MARK: state roots

    /// Compares another member's root with the one that this node had at that frontier, if it has
    /// passed it. Who of the two is wrong, the owner finds out by asking others (`dispute`).
    package func compare(_ other: FrontierRoot) {
        guard installed.agrees(with: other) == false else { return }
        let isKnown = dispute != nil
        // The latest is the one that others still know.
        dispute = max(dispute ?? .zero, other.frontier)
        guard !isKnown else { return }
        healer.noteDivergence(
            "the state root at \(other.frontier) differs from another member's \(other.root)")
    }

    /// Most members agree on another state: this node's manifest goes to `quarantine/`, and the
    /// next open finds none, so that a peer's takes its place. The owner has to stop. Throws
    /// `.busy` while an edit is on its way.
    package func setManifestAside() throws(EngineError) {
        guard !isInstalling else { throw .busy(reason: "an edit of the manifest is on its way") }
        isClosing = true
        try manifestFile.setAside(files)
    }

    // MARK: healed files

    private func nextHeal() -> Installation? {
        while let result = healedTables.first {
            guard case .written(let local, _) = result.outcome else {
                healedTables.removeFirst()
                continue
            }
            let id = result.record.id
            guard installed.local[id]?.generation == result.oldGeneration,
                tables.handle(id)?.record.digest == result.record.digest
            else {
                // Compacted away or replaced meanwhile: the new file is needless.
                healedTables.removeFirst()
                forget(result, local)
                continue
            }
            healedTables.removeFirst()
            return Installation(
                edits: [.healed(id, replacing: result.oldGeneration, local)],
                conclusion: .healed(result))
        }
        return nil
    }

    /// The edit was taken back, unless the disk's state is unknown: the new file is needless.
    private func discardHealed(_ result: HealResult, _ error: EngineError) {
        if case .poisoned = error { return }
        guard case .written(let local, _) = result.outcome else { return }
        makeHandle(result.record, local).markObsolete()
    }

    private func forget(_ result: HealResult, _ local: LocalTable) {
        makeHandle(result.record, local).markObsolete()
        healer.drop(result.hint.table)
    }

    func healed(_ result: HealResult) {
        switch result.outcome {
        case .written: healedTables.append(result)
        case .failed(let error): healer.gaveUp(result, error, now: now)
        }
    }

    /// The manifest names the new generation: readers get it, then it is read back.
    private func didSwap(_ result: HealResult) {
        guard case .written(let local, _) = result.outcome else { return }
        let old = tables.handle(result.record.id)
        // It may have moved to another level meanwhile.
        let fresh = makeHandle(old?.record ?? result.record, local)
        tables.set(fresh)
        let healer = self.healer
        let now = self.now
        jobs.submit(.heal) {
            if let error = healer.finish(result, fresh, old: old) {
                healer.gaveUp(result, error, now: now)
            }
        }
    }
}
