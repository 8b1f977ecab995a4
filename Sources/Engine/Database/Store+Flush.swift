// Flush: a finished segment's memtable becomes level-0 tables. Started as soon as the segment is
// frozen (it holds committed entries only); installed as a stand-in when the own log is synced
// through it, in segment order.

extension Store {
    /// Milliseconds before failed work is tried again.
    static let retryMilliseconds: UInt64 = 1_000

    func startFlushes() {
        for at in frozen.indices {
            switch frozen[at].state {
            case .waiting: break
            case .retry(let time) where time <= now: break
            case .retry, .flushing, .flushed: continue
            }
            if frozen[at].isEmpty {
                frozen[at].state = .flushed
            } else {
                frozen[at].state = .flushing
                submitFlush(frozen[at])
            }
        }
    }

    private func submitFlush(_ segment: FrozenSegment) {
        let builder = OutputBuilder(
            files: files, index: segment.last, kind: .flush, options: options,
            functions: functions,
            generation: segment.generation)
        jobs.submit(.flush) { [weak self] in
            let result: Result<FlushResult, EngineError>
            do throws(EngineError) {
                result = .success(try builder.flush(segment))
            } catch {
                result = .failure(error)
            }
            self?.post(.flushed(segment: segment.last, result))
        }
    }

    func flushed(_ last: LogIndex, _ result: Result<FlushResult, EngineError>) {
        if case .success(let flush) = result { written.flushedBytes += flush.fileBytes }
        switch result {
        case .success(let flush) where !flush.isBalanced:
            // Memory or logic failed in between: the memtable is still here, so once more.
            let name = "the flush of the segment ending at \(last)"
            failures.flush = .corrupt(file: name, reason: "its sums do not balance")
            healer.noteTrouble("\(name): its sums do not balance")
            for table in flush.tables { adopt(table) }
            for table in flush.tables { discard(table.record.id) }
            guard let at = frozen.firstIndex(where: { $0.last == last }) else { return }
            frozen[at].generation += 1
            frozen[at].state = .retry(at: now + Store.retryMilliseconds)
        case .success(let flush):
            // Others may have proved it meanwhile.
            if logical.unsealed.contains(where: { $0.last == last }) {
                noteOutcome(JobID(index: last, kind: .flush), flush)
            }
            if let at = frozen.firstIndex(where: { $0.last == last }) {
                frozen[at].state = .flushed
                frozen[at].output = flush.tables
                for table in flush.tables { adopt(table) }
            }
        case .failure(let error):
            healer.noteTrouble("flush of the segment ending at \(last): \(error)")
            failures.flush = error
            guard let at = frozen.firstIndex(where: { $0.last == last }) else { return }
            frozen[at].state = .retry(at: now + Store.retryMilliseconds)
        }
    }

    /// Records an own result, to be reported until the log concludes it.
    func noteOutcome(_ job: JobID, _ result: JobResult) {
        let attempt = (ownOutcomes[job]?.attempt ?? 0) + 1
        ownOutcomes[job] = JobOutcome(
            job: job, attempt: attempt,
            result: .tables(result.tables.map(\.record), balanced: result.isBalanced))
    }

    /// A flush of an earlier process that the log has not sealed yet: reported again.
    func noteStandIn(_ standIn: StandIn) {
        let job = JobID(index: standIn.segment.last, kind: .flush)
        ownOutcomes[job] = JobOutcome(
            job: job, attempt: 1, result: .tables(standIn.tables, balanced: true))
    }

    /// Makes a finished file usable. Its handle deletes the file once it is obsolete and unpinned.
    @discardableResult
    func adopt(_ table: BuiltTable) -> TableHandle {
        let tombstones = table.rangeTombstones
        let handle = makeHandle(
            table.record, table.local, tombstones.isEmpty ? nil : tombstones)
        tables.set(handle)
        return handle
    }

    func makeHandle(
        _ record: TableRecord, _ local: LocalTable, _ tombstones: [RangeTombstone]? = nil
    ) -> TableHandle {
        let healer = self.healer
        return TableHandle(
            record: record, generation: UInt64(local.generation), fileBytes: local.fileBytes,
            codec: BlockCodec(rawValue: local.codec) ?? .none, source: openTables,
            tombstones: tombstones
        ) { name in
            healer.remove(name)
        }
    }
}
