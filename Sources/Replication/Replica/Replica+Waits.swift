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
    /// Its client is gone.
    var cancellation = CancellationFlag()
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
        waits += remoteWaits.expire(now: now)
        guard !waits.isEmpty else { return }
        guard core.role == .leader else { return passWaits(now: now) }
        let progress = core.progress(now: now)
        waits.removeAll { wait in
            // Who is away holds what it held; of a client that wrote nothing that says nothing.
            let reached = progress.count {
                $0.id != options.node && $0.match >= wait.index
                    && (wait.index > .zero || $0.isRecentlyActive)
            }
            let isOver = wait.deadline <= now || wait.cancellation.isCancelled
            guard reached >= wait.count || isOver else { return false }
            wait.completion(reached)
            return true
        }
    }

    /// Another member leads, or nobody. A question to a leader is short, and asked again while its
    /// client waits: the leader keeps nothing for long of what nobody wants to know any more.
    private func passWaits(now: UInt64) {
        let leader = core.leader
        waits.removeAll { wait in
            if wait.isAnothers || wait.deadline <= now || wait.cancellation.isCancelled {
                wait.completion(nil)
                return true
            }
            guard leader != .none else { return false }
            let left = min(wait.deadline - now, Replica.questionMilliseconds)
            let request = remoteWaits.add(
                to: leader, deadline: now + left + Replica.answerWayMilliseconds, wait)
            let question = DurabilityQuestion(
                index: wait.index, count: UInt32(clamping: wait.count), timeout: left)
            guard environment.send(.wait(request, question), to: leader) else {
                _ = remoteWaits.cancel(request)
                return false
            }
            return true
        }
    }

    /// The leader answers when the question's time is over; its answer has a way to go.
    private static let answerWayMilliseconds: UInt64 = 200
    private static let questionMilliseconds: UInt64 = 2_000
    /// With so many of them no other member's is taken; it asks again.
    private static let waitsMax = 65_536

    /// The leader answered, or does not lead.
    func answered(_ wait: DurabilityWait, _ reached: Int?) {
        let isOver = wait.deadline <= environment.monotonicMilliseconds
        if let reached, reached >= wait.count || isOver || wait.cancellation.isCancelled {
            wait.completion(reached)
        } else {
            // Asked again in a later turn, whoever leads then.
            waits.append(wait)
        }
    }

    func serveWait(_ request: RequestID, _ question: DurabilityQuestion, from member: MemberID) {
        guard core.role == .leader, waits.count < Replica.waitsMax else {
            environment.send(.waitReply(request, nil), to: member)
            return
        }
        let environment = self.environment
        let timeout = min(question.timeout, Replica.questionMilliseconds)
        waits.append(
            DurabilityWait(
                index: question.index, count: Int(question.count),
                deadline: environment.monotonicMilliseconds + timeout, isAnothers: true
            ) { environment.send(.waitReply(request, $0), to: member) })
    }
}
