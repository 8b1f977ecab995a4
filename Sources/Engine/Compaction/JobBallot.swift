// The count of members' outcomes for one flush or job. Knows nothing of what the work is, nor of
// logs and leaders; `JobCoordinator` keeps one for each piece of work.

struct JobBallot: Sendable {
    enum Decision: Hashable, Sendable {
        /// `wrong`: members whose output differs. `isLone`: nobody else computed the same.
        case proved([TableRecord], wrong: [MemberID], isLone: Bool)
        /// Members disagree and nothing decides between them.
        case undecided
        /// Every able member failed.
        case failed(String)
    }

    enum Finding: Hashable, Sendable {
        case wait
        case recompute(attempt: UInt32, [MemberID])
        case decided(Decision)
    }

    private struct Vote: Sendable {
        var attempt: UInt32
        var result: JobOutcome.Result
        /// When this member's first outcome came.
        var since: UInt64
        /// Computed twice, with different tables: it is wrong at least once.
        var contradictsItself = false

        var tables: [TableRecord]? {
            guard !contradictsItself, case .tables(let tables, _) = result else { return nil }
            return tables
        }
    }

    /// A request to compute once more, which may get lost on its way.
    private struct Ask: Sendable {
        var attempt: UInt32
        var at: UInt64
    }

    private var votes: [MemberID: Vote] = [:]
    /// Outcomes of earlier attempts are of an earlier round; 0 in the first.
    private var roundAttempt: UInt32 = 0
    private var asks: [MemberID: Ask] = [:]
    /// Members differed in this round, and were asked to compute once more.
    private var isDisputed = false

    /// Milliseconds after which an unanswered request is sent again.
    static let askAgainAfter: UInt64 = 10_000

    /// Reports repeat; only a later attempt is news.
    mutating func take(
        _ result: JobOutcome.Result, attempt: UInt32, from member: MemberID, now: UInt64
    ) {
        guard attempt >= roundAttempt else { return }
        guard var vote = votes[member] else {
            votes[member] = Vote(attempt: attempt, result: result, since: now)
            return
        }
        guard attempt > vote.attempt else { return }
        if case .tables(let before, _) = vote.result, case .tables(let after, _) = result,
            before != after
        {
            vote.contradictsItself = true
        }
        vote.attempt = attempt
        vote.result = result
        votes[member] = vote
    }

    /// Forgets all votes; each able member is asked to compute once more.
    mutating func beginRound() {
        let last = votes.values.map(\.attempt).max() ?? roundAttempt
        roundAttempt = max(last, roundAttempt) &+ 1
        votes.removeAll()
        asks.removeAll()
        isDisputed = false
    }

    /// What the votes come to. `patience`: how long the own output waits for a second.
    mutating func count(_ members: JobMembers, now: UInt64, patience: UInt64) -> Finding {
        let groups = self.groups()
        if let first = groups.first, first.members.count >= 2,
            groups.count == 1 || groups[1].members.count < first.members.count
        {
            return .decided(
                .proved(first.tables, wrong: differing(from: first.tables), isLone: false))
        }
        if let request = request(groups, members, now: now) { return request }
        if isDisputed, isWaiting(groups, members) { return .wait }
        if groups.isEmpty { return countFailures(members) }
        guard groups.count == 1, let only = groups.first, let member = only.members.first else {
            return .decided(.undecided)
        }
        let isPatient =
            member != members.own || now &- (votes[member]?.since ?? now) < patience
        if isPatient, !missing(members).isEmpty { return .wait }
        return .decided(
            .proved(only.tables, wrong: differing(from: only.tables), isLone: true))
    }

    /// Whom to ask to compute once more now, if anybody.
    private mutating func request(_ groups: [Group], _ members: JobMembers, now: UInt64)
        -> Finding?
    {
        if groups.count >= 2, !isDisputed {
            isDisputed = true
            let attempt = (votes.values.map(\.attempt).max() ?? 0) &+ 1
            return ask(groups.flatMap(\.members).sorted(), attempt, now: now)
        }
        if roundAttempt > 0 {
            let new = missing(members).filter { asks[$0] == nil }
            if !new.isEmpty { return ask(new.sorted(), roundAttempt, now: now) }
        }
        let late = unanswered(members).filter { member in
            asks[member].map { now &- $0.at >= JobBallot.askAgainAfter } ?? false
        }
        guard let attempt = late.compactMap({ asks[$0]?.attempt }).max() else { return nil }
        return ask(late.sorted(), attempt, now: now)
    }

    private mutating func ask(_ who: [MemberID], _ attempt: UInt32, now: UInt64) -> Finding {
        for member in who { asks[member] = Ask(attempt: attempt, at: now) }
        return .recompute(attempt: attempt, who)
    }

    /// Able members that were asked and have not answered.
    private func unanswered(_ members: JobMembers) -> Set<MemberID> {
        members.able.filter { member in
            guard let ask = asks[member] else { return false }
            return votes[member].map { $0.attempt < ask.attempt } ?? true
        }
    }

    /// In a dispute: for those that compute once more, then for a third.
    private func isWaiting(_ groups: [Group], _ members: JobMembers) -> Bool {
        !unanswered(members).isEmpty || (groups.count >= 2 && !missing(members).isEmpty)
    }

    private func countFailures(_ members: JobMembers) -> Finding {
        guard missing(members).isEmpty, !votes.isEmpty,
            !members.able.isEmpty || votes[members.own] != nil
        else { return .wait }
        if votes.values.contains(where: \.contradictsItself) { return .decided(.undecided) }
        let reasons = votes.sorted { $0.key < $1.key }.compactMap { member, vote -> String? in
            guard case .failed(let why) = vote.result else { return nil }
            return "member \(member): \(why)"
        }
        return .decided(.failed(reasons.joined(separator: "; ")))
    }

    /// Able members that have said nothing yet.
    private func missing(_ members: JobMembers) -> Set<MemberID> {
        members.able.filter { votes[$0] == nil }
    }

    private struct Group {
        var tables: [TableRecord]
        var members: [MemberID]
    }

    /// Equal outputs together, the largest group first, then that of the lowest member.
    private func groups() -> [Group] {
        var groups: [Group] = []
        for (member, vote) in votes.sorted(by: { $0.key < $1.key }) {
            guard let tables = vote.tables else { continue }
            if let index = groups.firstIndex(where: { $0.tables == tables }) {
                groups[index].members.append(member)
            } else {
                groups.append(Group(tables: tables, members: [member]))
            }
        }
        return groups.sorted {
            $0.members.count != $1.members.count
                ? $0.members.count > $1.members.count : $0.members[0] < $1.members[0]
        }
    }

    private func differing(from tables: [TableRecord]) -> [MemberID] {
        votes.filter { _, vote in
            guard case .tables(let own, _) = vote.result else { return false }
            return vote.contradictsItself || own != tables
        }.keys.sorted()
    }
}
