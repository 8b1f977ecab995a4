// What members say to each other, besides consensus: reports, forwarded commands, reads by index.
import Engine
import Synchronization

extension Replica {
    /// Longest a forwarded command may take before its outcome is called unknown.
    private static let forwardTimeoutMilliseconds: UInt64 = 10_000

    func handle(_ message: PeerMessage, from member: MemberID) {
        switch message {
        case .raft(let group, let inner):
            guard group == options.group else { return }
            handle(inner, from: member)
        case .report(let group, let report):
            guard group == options.group else { return }
            noteReport(report, from: member)
        case .progress(let group, let progress):
            guard group == options.group, member == core.leader else { return }
            floors.raise(frontier: progress.minimumFrontier, log: progress.logFloor)
            toldMatches = Dictionary(
                progress.matches.map { ($0.member, $0.index) }, uniquingKeysWith: max)
        case .recompute(let group, let job, let attempt):
            guard group == options.group, member == core.leader else { return }
            store.recompute(job, attempt: attempt)
        case .readIndex(let request): serveReadIndex(request, from: member)
        case .readIndexReply(let request, let reply):
            // Only the leader was asked; what another leader was asked is asked again.
            guard member == core.leader else { return }
            switch reply {
            case .ready(let index, let clock):
                reads.confirmed(request, index: index, clock: clock)
            case .notLeader: reads.refused(request, now: environment.monotonicMilliseconds)
            }
        case .forward(let request, let bytes): serveForward(request, bytes, from: member)
        case .forwardReply(let request, let reply):
            switch reply {
            case .answered(let bytes): forwards.answered(request, by: member)?(.answered(bytes))
            case .notLeader:
                forwards.answered(request, by: member)?(
                    .notSent(reason: "that member does not lead"))
            }
        case .wait(let request, let question): serveWait(request, question, from: member)
        case .waitReply(let request, let reached):
            if let wait = remoteWaits.answered(request, by: member) { answered(wait, reached) }
        case .fetch, .fetchReply: break  // The runtime serves these on its own threads.
        }
    }

    private func handle(_ message: RaftMessage, from member: MemberID) {
        if case .append(let request) = message, !isAcceptable(request, from: member) { return }
        if case .voteReply(let reply) = message, core.isHelp(reply, from: member) {
            // Before the vote counts: it may make this member the leader.
            hearClock(reply.clock)
        }
        step(.message(from: member, message))
        switch message {
        case .heartbeat(let heartbeat) where heartbeat.term == core.term && core.leader == member:
            hearClock(heartbeat.clock)
            compareClock(heartbeat.clock)
        case .heartbeatReply(let reply) where reply.term == core.term:
            judgedClock = nil
            clockCheck.answered(
                round: reply.round, by: member, clock: reply.clock,
                now: environment.monotonicMilliseconds)
        default: break
        }
    }

    /// Judges entries before anything is acknowledged: applying them later cannot fail. An entry
    /// from far in the future is not acknowledged; a clock that wrong would expire everything. What
    /// is committed, or no later than what this log holds, has been the time already: if all clocks
    /// were set back, nobody would take anything else.
    private func isAcceptable(_ request: AppendRequest, from member: MemberID) -> Bool {
        if let index = contradictedCommit(request) {
            noteContradiction(.committed(index), by: member)
            return false
        }
        var known = max(environment.wallMilliseconds, tail.clock)
        for entry in request.entries {
            if entry.index <= max(core.lastIndex, request.commit) {
                known = max(known, entry.header.clock)
            } else if entry.header.clock > known + ReplicaOptions.clockAheadMilliseconds {
                environment.note(
                    .warning("entry \(entry.index) carries a clock too far ahead; refused"))
                return false
            }
            // Known already, byte for byte.
            if cache[entry.index]?.header.checksum == entry.header.checksum { continue }
            do throws(DecodingError) {
                try EntryValidation.validate(entry)
            } catch {
                environment.note(.warning("entry \(entry.index) is malformed: \(error); refused"))
                return false
            }
        }
        return true
    }

    /// The first entry that contradicts what is committed here: equal index and term with another
    /// content, or behind another entry than the committed one. Who is at or below its commit index
    /// keeps what it has. What an earlier leader sent and nobody committed comes late, no more.
    private func contradictedCommit(_ request: AppendRequest) -> LogIndex? {
        guard request.term >= core.term else { return nil }
        let commit = core.commitIndex
        for entry in request.entries {
            guard entry.index <= commit + 1 else { return nil }
            if entry.index <= commit, let known = cache[entry.index],
                known.header.checksum != entry.header.checksum
            {
                return entry.index
            }
            let before = entry.index - 1
            let known =
                before == tail.position.index
                ? tail.position.checksum : cache[before]?.header.checksum ?? .zero
            if before <= commit, known != .zero, entry.header.previous != known { return before }
        }
        return nil
    }

    func noteContradiction(_ what: Contradiction, by member: MemberID) {
        // What a log with holes says of them is a guess until they are mended.
        if case .committed = what, !holes.isEmpty { return }
        environment.note(.contradiction(member, "\(what)"))
    }

    func forward(_ bytes: [UInt8], _ completion: @escaping @Sendable (ForwardOutcome) -> Void) {
        let leader = core.leader
        guard leader != .none, leader != options.node else {
            let why = voters == [options.node] ? obstacle : nil
            return completion(
                .notSent(
                    reason: why.map { "read-only, \($0): restore the log from a backup" }
                        ?? "no leader is known"))
        }
        let request = forwards.add(
            to: leader,
            deadline: environment.monotonicMilliseconds + Replica.forwardTimeoutMilliseconds,
            completion)
        if !environment.send(.forward(request, bytes), to: leader) {
            forwards.cancel(request)?(.notSent(reason: "the leader cannot be reached"))
        }
    }

    private func serveForward(_ request: RequestID, _ bytes: [UInt8], from member: MemberID) {
        let service = forwardService.withLock { $0 }
        guard evaluableTerm != nil, let service else {
            environment.send(
                .forwardReply(request, .notLeader(leader: core.leader)), to: member)
            return
        }
        service.handle(bytes) { [weak self] answer in
            self?.post(.forwardAnswered(request, member, answer))
        }
    }

    func failForwards(to member: MemberID) {
        for completion in forwards.failAll(of: member) { completion(.unknown) }
        waits += remoteWaits.failAll(of: member)
        if member == core.leader { reads.leaderChanged() }
    }
}
