// What a leader knows about one member, and what it has in flight to it.
//
// probe      the member's log is not known to match: one append at a time, answered before the next
// replicate  appends are pipelined: `next` runs ahead of `match`, bounded by messages and bytes
// tables     the member needs entries that this log no longer has: no appends until it comes back
//
// `match` is durable there and equal to this log; it only falls if the member proves to have lost
// what it acknowledged.
import Engine

package struct Progress: Sendable {
    package enum Mode: Sendable { case probe, replicate, tables }

    private struct Inflight {
        var last: LogIndex
        var bytes: Int
    }

    package let id: MemberID
    package internal(set) var isVoter: Bool
    /// Among the old voters of a joint membership.
    package var wasVoter = false
    package private(set) var match = LogIndex.zero
    package private(set) var next = LogIndex(1)
    package private(set) var mode = Mode.probe

    /// Its answer to this member's ballot.
    package var vote: Bool?
    /// When anything came from it.
    var lastHeard: UInt64 = 0

    /// A probe is unanswered.
    private(set) var isPaused = false
    private var inflight: [Inflight] = []
    private var inflightStart = 0
    private(set) var inflightBytes = 0
    /// Of an unanswered probe.
    private var probeBytes = 0
    /// Last send into an idle pipeline, or last answer: what the retry delay counts from.
    private var lastMoved: UInt64 = 0
    private var retryDelay: UInt64 = 0

    /// When it first refused the first entry there is, with none acknowledged behind that since.
    private var baseRefusedAt: UInt64?

    private static let timedRoundsMax = 16

    /// Highest heartbeat round acknowledged, and when the latest *timed* one was sent.
    private(set) var ackedRound: UInt64 = 0
    private(set) var confirmedAt: UInt64 = 0
    /// As `confirmedAt`, of those that it answered with a promise; 0: none.
    private(set) var promisedAt: UInt64 = 0
    /// Those that are not answered; what is sent while there are too many counts as the last.
    private var timedRounds: [(round: UInt64, sentAt: UInt64)] = []
    /// Everything committed at this time has reached it; nil: nothing is known of it.
    package private(set) var caughtUpAt: UInt64?
    private var goal: (commit: LogIndex, setAt: UInt64)?

    package init(id: MemberID, isVoter: Bool) {
        self.id = id
        self.isVoter = isVoter
    }

    package var votes: Bool { isVoter || wasVoter }
    package var inflightCount: Int { inflight.count - inflightStart }

    /// A term begins: nothing is known but where to try first.
    mutating func reset(next: LogIndex, now: UInt64, confirmedAt: UInt64) {
        let wasVoter = self.wasVoter
        self = Progress(id: id, isVoter: isVoter)
        self.wasVoter = wasVoter
        self.next = next
        self.confirmedAt = confirmedAt
        lastHeard = now
    }

    // MARK: Appends

    /// Whether another message of `bytes` may leave. One is always allowed, however large.
    func hasRoom(for bytes: Int, _ configuration: RaftConfiguration) -> Bool {
        if inflightCount == 0 { return true }
        return bytes <= configuration.aloneBytes && !isAloneInFlight(configuration)
            && inflightCount < configuration.maxInflightMessages
            && inflightBytes + bytes <= configuration.maxInflightBytes
    }

    private func isAloneInFlight(_ configuration: RaftConfiguration) -> Bool {
        inflightCount == 1 && inflightBytes > configuration.aloneBytes
    }

    /// A probe with entries of `bytes` left; further ones wait for its answer.
    mutating func probeSent(bytes: Int, now: UInt64) {
        isPaused = true
        probeBytes = bytes
        lastMoved = now
    }

    /// A pipelined append left.
    mutating func sent(through last: LogIndex, bytes: Int, now: UInt64) {
        if inflightCount == 0 { lastMoved = now }
        inflight.append(Inflight(last: last, bytes: bytes))
        inflightBytes += bytes
        next = last + 1
    }

    /// The member has everything through `index`, durably.
    package mutating func accepted(through index: LogIndex, now: UInt64) {
        let isNews = index > match
        if isNews {
            match = index
            retryDelay = 0
            lastMoved = now
        }
        switch mode {
        case .replicate:
            next = max(next, match + 1)
            release(through: match)
        // Entries that a probe brought are acknowledged as something new, and what was known may be
        // the answer to an earlier copy; a bare question has no other answer.
        case .probe where index + 1 >= next && (isNews || probeBytes == 0):
            next = match + 1
            isPaused = false
            retryDelay = 0
        case .probe, .tables: break
        }
        if let goal, match >= goal.commit {
            caughtUpAt = goal.setAt
            self.goal = nil
        }
    }

    package mutating func becomeReplicate() {
        mode = .replicate
        isPaused = false
        clearInflight()
    }

    /// Starts over at `next`. If that is at or below `match`, the member lost acknowledged entries.
    package mutating func becomeProbe(next: LogIndex) {
        mode = .probe
        isPaused = false
        retryDelay = 0
        self.next = max(next, LogIndex(1))
        if match >= self.next {
            match = self.next - 1
            // What was said of it while it was away was said of entries that it does not have.
            caughtUpAt = nil
            goal = nil
        }
        clearInflight()
    }

    mutating func becomeTables() {
        mode = .tables
        isPaused = false
        clearInflight()
    }

    /// Whether what is in flight has waited long enough to be asked about, or sent again. Waits
    /// double while nothing comes back: a member whose disk is slow is not buried.
    mutating func shouldRetry(now: UInt64, _ configuration: RaftConfiguration) -> Bool {
        if retryDelay == 0 { retryDelay = configuration.heartbeatInterval }
        guard now >= lastMoved &+ retryDelay &+ travelTime(configuration) else { return false }
        retryDelay = min(retryDelay * 2, configuration.electionTimeout.upperBound)
        lastMoved = now
        return true
    }

    /// Milliseconds that what would be sent again, or travels alone, may take. Heartbeats overtake
    /// it: that one was answered says nothing of it.
    private func travelTime(_ configuration: RaftConfiguration) -> UInt64 {
        let bytes = mode == .probe ? probeBytes : isAloneInFlight(configuration) ? inflightBytes : 0
        return UInt64(bytes / RaftConfiguration.slowestBytesPerMillisecond)
    }

    /// It refused the log's base. True if it already did `patience` ago: this refusal is none that
    /// was under way for long.
    mutating func refusedBase(now: UInt64, patience: UInt64) -> Bool {
        guard let since = baseRefusedAt else {
            baseRefusedAt = now
            return false
        }
        return now - since >= patience
    }

    mutating func acceptedBase() { baseRefusedAt = nil }

    mutating func resumeProbe() { isPaused = false }

    private mutating func release(through index: LogIndex) {
        while inflightStart < inflight.count, inflight[inflightStart].last <= index {
            inflightBytes -= inflight[inflightStart].bytes
            inflightStart += 1
        }
        if inflightStart == inflight.count {
            clearInflight()
        } else if inflightStart >= 64 {
            inflight.removeFirst(inflightStart)
            inflightStart = 0
        }
    }

    private mutating func clearInflight() {
        inflight.removeAll(keepingCapacity: true)
        inflightStart = 0
        inflightBytes = 0
    }

    // MARK: Heartbeats

    /// A heartbeat leaves. Its answer, or that of a later round, dates the contact by when it was
    /// *sent*.
    package mutating func heartbeatSent(round: UInt64, commit: LogIndex, now: UInt64) {
        if timedRounds.count < Progress.timedRoundsMax { timedRounds.append((round, now)) }
        if match >= commit {
            caughtUpAt = now
            goal = nil
        } else if goal == nil {
            goal = (commit, now)
        }
    }

    mutating func heartbeatAcked(round: UInt64, isPromised: Bool) {
        ackedRound = max(ackedRound, round)
        guard let last = timedRounds.lastIndex(where: { $0.round <= round }) else { return }
        confirmedAt = timedRounds[last].sentAt
        if isPromised { promisedAt = confirmedAt }
        timedRounds.removeSubrange(...last)
    }
}
