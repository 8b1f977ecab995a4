// Ledger rows of what is healed besides tables: manifest copies, hard state, log entries. Whoever
// mends such a file tells the healer here; tables have their own path (hints, rewrite, swap).

/// A file of this node that was damaged, and how its content came back.
package struct FileHeal: Sendable {
    package enum Source: Sendable {
        /// What was sound here sufficed.
        case local
        /// From a peer, or from several (`.none`).
        case replica(MemberID, bytes: UInt64)
        /// Nothing yet: it is known to be damaged, and asked for.
        case pending
    }

    /// Relative to the group's directory.
    package var file: String
    package var source: Source
    /// What was wrong, and what came of it.
    package var detail: String
    /// Wall clock when the damage was found; nil for a heal that took no time.
    package var startedAt: UInt64?

    package init(file: String, source: Source, detail: String, startedAt: UInt64? = nil) {
        self.file = file
        self.source = source
        self.detail = detail
        self.startedAt = startedAt
    }
}

extension Healer {
    package func note(_ heal: FileHeal) {
        let now = wallClock
        var row = LedgerRow(
            time: now, file: "group-0/" + heal.file, blocks: [], reason: "lost",
            durationMilliseconds: heal.startedAt.map { now > $0 ? now - $0 : 0 } ?? 0,
            state: .detected, detail: heal.detail)
        switch heal.source {
        case .local:
            row.source = "local"
            row.state = .healedLocal
        case .replica(let peer, let bytes):
            row.source = "replica"
            row.peer = peer.rawValue
            row.bytesFetched = bytes
            row.state = .healedReplica
        case .pending: row.reason = heal.detail
        }
        ledger.append(row, sync: row.state != .detected)
    }

    /// What nobody can give back, and what came of it.
    func noteIrreparable(file: String, _ detail: String) {
        ledger.append(
            LedgerRow(
                time: wallClock, file: "group-0/" + file, blocks: [], reason: "lost",
                state: .irreparable, detail: detail),
            sync: true)
    }

    /// Copies of hard state that an open found damaged were written anew from the others.
    package func noteHealed(_ hardState: HardState) {
        guard !hardState.damagedCopies.isEmpty, !hardState.wasCreated else { return }
        let copies = hardState.damagedCopies.map(String.init).joined(separator: ", ")
        note(
            FileHeal(
                file: "state", source: .local,
                detail: "copies \(copies) of 0 to 3 were damaged; written anew from the newest"
                    + (hardState.isVoteTrusted ? "" : "; this node has no vote")))
    }

    /// What recovery of the log found unreadable of what was promised.
    package func noteHoles(_ holes: [LogHole]) {
        for hole in holes {
            note(
                FileHeal(
                    file: "log", source: .pending,
                    detail: "entries \(hole.lower) to \(hole.upper) are unreadable"))
        }
    }
}
