// `WAIT`: how many members hold a client's writes durably. The leader counts, itself excluded; any
// other member asks it, and asks the next leader if that one does not answer.
import Engine

/// A client's `WAIT`.
struct DurabilityWait: Sendable {
    var index: LogIndex
    var count: Int
    var deadline: UInt64
    /// Another member asks for it: it asks elsewhere itself when this one does not lead.
    var isAnothers: Bool
    /// Nil: this member does not know.
    var completion: @Sendable (Int?) -> Void
}

extension Replica {
    func waitDeadline(_ timeout: UInt64) -> UInt64 {
        let (deadline, isOver) = environment.monotonicMilliseconds
            .addingReportingOverflow(timeout)
        return timeout == 0 || isOver ? .max : deadline
    }

    /// Counts for those whose number or time has come. Each turn.
    func answerWaits(now: UInt64) {
        for wait in remoteWaits.expire(now: now) { wait.completion(nil) }
        guard !waits.isEmpty else { return }
        guard core.role == .leader else { return passWaits(now: now) }
        let progress = core.progress(now: now)
        waits.removeAll { wait in
            let reached = progress.count { $0.id != options.node && $0.match >= wait.index }
            guard reached >= wait.count || wait.deadline <= now else { return false }
            wait.completion(reached)
            return true
        }
    }

    /// Another member leads, or nobody.
    private func passWaits(now: UInt64) {
        let leader = core.leader
        waits.removeAll { wait in
            if wait.isAnothers || wait.deadline <= now {
                wait.completion(nil)
                return true
            }
            guard leader != .none else { return false }
            let left =
                wait.deadline == .max ? 0 : min(wait.deadline - now, Replica.waitMillisecondsMax)
            // The leader answers at the deadline; its answer has a way to go.
            let deadline =
                wait.deadline == .max ? .max : wait.deadline + Replica.answerWayMilliseconds
            let request = remoteWaits.add(to: leader, deadline: deadline, wait)
            let question = DurabilityQuestion(
                index: wait.index, count: UInt32(clamping: wait.count), timeout: left)
            guard environment.send(.wait(request, question), to: leader) else {
                _ = remoteWaits.cancel(request)
                return false
            }
            return true
        }
    }

    private static let answerWayMilliseconds: UInt64 = 200
    /// Of one question to a leader; a wait that is longer is asked for again. Some 35 years.
    private static let waitMillisecondsMax: UInt64 = 1 << 40

    /// The leader answered, or does not lead.
    func answered(_ wait: DurabilityWait, _ reached: Int?) {
        if let reached {
            wait.completion(reached)
        } else {
            // Asked again in a later turn, whoever leads then.
            waits.append(wait)
        }
    }

    func serveWait(_ request: RequestID, _ question: DurabilityQuestion, from member: MemberID) {
        guard core.role == .leader else {
            environment.send(.waitReply(request, nil), to: member)
            return
        }
        let environment = self.environment
        waits.append(
            DurabilityWait(
                index: question.index, count: Int(question.count),
                deadline: waitDeadline(question.timeout), isAnothers: true
            ) { environment.send(.waitReply(request, $0), to: member) })
    }
}
