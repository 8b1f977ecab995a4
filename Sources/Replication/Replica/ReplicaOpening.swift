// Opening a replica's files: hard state, store, log; in this order, since the log needs to know
// what the manifest says of it.
import Engine

/// Files of a replica, recovered and ready to be driven.
package struct OpenedReplica {
    package var store: Store
    package var log: Log
    package var hardState: HardState
    package var recovery: LogRecovery
    /// What the next entry is made from.
    package var tail: LogPoint
    package var raftLog: RaftLog
    /// Committed, by what the last entry says; zero if that is lost, until a peer supplies it.
    package var commit: LogIndex

    /// Opens or makes the files under `configuration.files`. Raises the boot counter, durably.
    package static func open(
        _ configuration: StoreConfiguration, log options: LogOptions, nonce: UInt64
    ) throws(EngineError) -> OpenedReplica {
        var configuration = configuration
        configuration.keepsRetired = true
        let files = configuration.files
        try engineError { () throws(FileError) in try files.create() }
        let hardState = try HardState.open(
            files.fileSystem, files.hardState, nonce: nonce, keys: files.keys)
        let store = try Store.open(configuration)
        var options = options
        options.keys = files.keys
        let (log, recovery) = try Log.open(
            files.fileSystem, files.log, hardState: hardState,
            genesis: configuration.identity.genesis, group: configuration.identity.group,
            options: options, base: store.logBase)
        for event in recovery.events { configuration.healEnvironment.note(event) }
        store.healer.noteHealed(hardState)
        store.healer.noteHoles(recovery.holes)
        if configuration.refusesGap { try refuseGap(recovery, store) }
        let (tail, commit) = try tail(log, store)
        let raftLog = raftLog(log, store, recovery.holes)
        // Entries are appended only after their term is durable: this state was rolled back. The
        // next start, when the terms agree again, has to know it, too.
        if hardState.isVoteTrusted, hardState.current.term < raftLog.runs.last?.term ?? .zero {
            try hardState.distrustVote()
        }
        try store.removeOrphans()
        return OpenedReplica(
            store: store, log: log, hardState: hardState, recovery: recovery,
            tail: tail, raftLog: raftLog, commit: commit)
    }

    /// The log is trimmed up to S only. If the entry behind S is lost, it may be that entry; or the
    /// manifest lost its end in both copies, which looks like appends that never became durable.
    private static func refuseGap(_ recovery: LogRecovery, _ store: Store) throws(EngineError) {
        let flushed = store.flushedPosition.index
        guard let gap = recovery.holes.first(where: { $0.lower == flushed + 1 }) else { return }
        throw .corrupt(
            file: "MANIFEST",
            reason: "it reaches to entry \(flushed), and the log lacks \(gap.lower) to \(gap.upper)"
        )
    }

    /// The members that the manifest names, or the log's first entries while nothing is flushed.
    /// Empty if neither does: no leader has founded this history yet, or its beginning is lost.
    package var membership: Membership {
        guard store.membership.members.isEmpty, log.first <= log.last.index else {
            return store.membership
        }
        do {
            for entry in try log.entries(from: log.first, maxBytes: OpenedReplica.foundingBytes)
            where entry.header.kind == .membership {
                return try entry.withPayload { (payload) throws(DecodingError) in
                    try Membership(decoding: payload)
                }
            }
        } catch {
            // Lost entries: a peer supplies them, and the members of the configuration hold until
            // then.
        }
        return store.membership
    }

    /// The entries that found a history are far below this.
    private static let foundingBytes = 64 << 10

    /// Behind the log's last entry; behind S if the log holds nothing above it. A lost last entry
    /// leaves its sequences unknown until a peer supplies it; such a member does not lead.
    private static func tail(_ log: Log, _ store: Store) throws(EngineError)
        -> (tail: LogPoint, commit: LogIndex)
    {
        let flushed = store.flushedTail
        let last = log.last
        guard last.index > flushed.position.index else { return (flushed, .zero) }
        do throws(EngineError) {
            if let entry = try log.entries(from: last.index, maxBytes: 1).first {
                return (LogPoint(after: entry), entry.header.commit)
            }
        } catch {
            guard case .logHole = error else { throw error }
        }
        let tail = LogPoint(
            position: last, nextSequence: flushed.nextSequence, clock: flushed.clock)
        return (tail, .zero)
    }

    private static func raftLog(_ log: Log, _ store: Store, _ holes: [LogHole]) -> RaftLog {
        let flushed = store.flushedPosition
        let first = log.first
        let last = log.last
        // What is kept of the flushed part counts, too: others may still need it.
        guard first <= last.index else {
            return RaftLog(base: flushed.index, baseTerm: flushed.term)
        }
        var runs = log.termRuns
        if (runs.last?.term ?? .zero) < last.term {
            // The last entry is lost, and yet was promised: this member votes with its position.
            runs.append(TermRun(term: last.term, first: last.index))
        }
        return RaftLog(
            first: first, last: last.index, runs: runs,
            baseTerm: first == flushed.index + 1 ? flushed.term : termBefore(first, log),
            // What is flushed is committed, and no leader contradicts it.
            holes: holes.filter { $0.upper > flushed.index })
    }

    /// The term of the last entry that was trimmed: without it no append could follow that entry.
    private static func termBefore(_ first: LogIndex, _ log: Log) -> Term? {
        guard let before = log.position(at: first - 1), before.checksum != .zero else {
            return nil
        }
        return before.term
    }
}
