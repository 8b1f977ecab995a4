// Evaluates commands that may write, on the leader, one after the other, and answers each when what
// its answer rests on is certain.
//
// A group is evaluated against applied state plus the overlay. Its effects become one proposal
// (more if they exceed `Limits.groupBytes`), and the run of commands that a proposal ends is a
// *segment*. Rules for replies:
//   - A segment with effects is answered when its proposal is applied. That also vouches for its
//     commands without effects: an entry made in this term after they were evaluated could not be
//     committed if another leader had written before.
//   - A segment without effects is answered when the highest proposal in flight that it read from
//     is applied and a linearizable read, asked for after the evaluation, is confirmed in the term
//     of the evaluation.
//   - Outcomes are told apart: not applied (retry is safe), applied, unknown.
// A refused proposal takes the overlay with it: everything read since may rest on it. Evaluation
// then waits until all proposals in flight have ended, and starts from applied state.
//
// What is in flight is bounded: a group whose next command finds no room keeps its place, ends its
// segment, and goes on when proposals have ended.
//
// Threads: `submit` and completions come from anywhere and append to the inbox. Whoever finds no
// drain running becomes it, and owns everything else: hand-overs to a thread would cost more than
// the evaluation. What has to read state may wait for the disk, so a drain that comes to such a
// request goes on, with the ownership, on the runner.
import Engine
import Replication
import Synchronization

package final class Evaluator: @unchecked Sendable {
    private enum Event {
        case request(EvaluationRequest)
        case resolved(UInt64, Resolution)
        case closed(@Sendable () -> Void)
    }

    private struct Inbox {
        var events: [Event] = []
        var isDraining = false
    }

    /// Something that answers wait for: a proposal, or a confirmation that evaluation was current.
    private struct Awaited {
        var term: Term
        var isProposal: Bool
        /// Bytes of its effects.
        var bytes: Int
        var groups: [PendingGroup]
    }

    private let service: any ReplicaService
    private let settings: RESPSettings
    private let runner: @Sendable (@escaping @Sendable () -> Void) -> Void
    private let inbox = Mutex(Inbox())

    // Owned by the drain.
    private var evaluation: Evaluation
    private var batch = WriteBatch()
    private var awaited: [UInt64: Awaited] = [:]
    /// Numbers proposals and confirmations; grows for ever.
    private var nextNumber: UInt64 = 1
    /// The first may be begun: it waits in front of a command for room.
    private var waiting: [PendingGroup] = []
    private var isClosed = false
    private var bytesInFlight = 0
    /// Proposals of the overlay's term that have not ended.
    private var proposalsInFlight = 0
    /// How a proposal of the overlay's term failed; set until all others have ended.
    private var refusal: Resolution?
    /// Groups with commands in the open segment.
    private var openGroups: [PendingGroup] = []

    /// `run` executes a closure soon, on a thread that may read from disk.
    package init(
        service: any ReplicaService, settings: RESPSettings,
        run: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void
    ) {
        self.service = service
        self.settings = settings
        runner = run
        evaluation = Evaluation(reader: service.reader, overlay: Overlay(term: .zero))
    }

    package func submit(_ request: EvaluationRequest) { post(.request(request)) }

    /// What is not evaluated yet, or comes later, is sent back. Calls back, on any thread, when the
    /// runner is not used any more: what a stopped one is given would never be answered.
    package func close(_ completion: @escaping @Sendable () -> Void) { post(.closed(completion)) }

    private func post(_ event: Event) {
        let mustStart = inbox.withLock { inbox in
            inbox.events.append(event)
            defer { inbox.isDraining = true }
            return !inbox.isDraining
        }
        if mustStart { drain(mayRead: false) }
    }

    // MARK: The drain

    /// `mayRead`: on the runner, which goes on with what a drain elsewhere had to leave.
    private func drain(mayRead: Bool) {
        var goesOn = mayRead
        while true {
            let events = inbox.withLock { inbox in
                if inbox.events.isEmpty, !goesOn { inbox.isDraining = false }
                defer { inbox.events = [] }
                return inbox.events
            }
            if events.isEmpty, !goesOn { return }
            goesOn = false
            // What has ended first: it makes the overlay small and may end a wait.
            for case .resolved(let number, let resolution) in events {
                resolve(number, resolution)
            }
            for case .request(let request) in events { waiting.append(PendingGroup(request)) }
            for case .closed in events { isClosed = true }
            if !waiting.isEmpty, !evaluateWaiting(mayRead: mayRead) {
                return runner { [self] in drain(mayRead: true) }
            }
            for case .closed(let completion) in events { completion() }
        }
    }

    /// False if it stopped before a request that has to read.
    private func evaluateWaiting(mayRead: Bool) -> Bool {
        guard !isClosed, let term = service.evaluatingTerm else {
            sendBackWaiting(isClosed ? "this node is stopping" : "this node does not lead")
            return true
        }
        guard prepareOverlay(term: term) else { return true }
        evaluation.now = service.clock
        evaluation.dependency = 0
        var done = 0
        var stopsToRead = false
        while done < waiting.count, hasRoom {
            stopsToRead = !mayRead && !waiting[done].request.isBlind
            if stopsToRead { break }
            guard evaluate(waiting[done], term: term) else { break }
            done += 1
        }
        let groups = Array(waiting.prefix(done))
        waiting.removeFirst(done)
        endSegment(term: term)
        invariant(batch.isEmpty && openGroups.isEmpty, "a segment stayed open")
        for group in groups { release(group) }
        return !stopsToRead
    }

    /// Groups of which nothing is evaluated may go elsewhere; the rest of a begun one may not.
    private func sendBackWaiting(_ reason: String) {
        let groups = waiting
        waiting = []
        for group in groups {
            guard group.isBegun else {
                group.request.completion(.notEvaluated(reason: reason))
                continue
            }
            while group.next != nil {
                group.append(refusedWith: ReplyText.clusterDown(reason))
                group.advance()
            }
            release(group)
        }
    }

    /// Whether the effects of another command may come to those in flight. Asked before each: one
    /// request can hold thousands that copy a large value.
    private var hasRoom: Bool {
        bytesInFlight + batch.byteCount < settings.effectBytesInFlight
            && evaluation.overlay.rangeCount < settings.rangesInFlight
    }

    /// False while evaluation must wait for the proposals behind a refused one.
    private func prepareOverlay(term: Term) -> Bool {
        if evaluation.overlay.term == term {
            guard refusal != nil else { return true }
            guard proposalsInFlight == 0 else { return false }
        }
        evaluation.overlay.reset(term: term)
        proposalsInFlight = 0
        refusal = nil
        return true
    }

    /// False if it stopped before a command for want of room, to go on there later.
    private func evaluate(_ group: PendingGroup, term: Term) -> Bool {
        while let (routed, version) = group.next {
            // What is refused takes none.
            guard refusal != nil || hasRoom else { return false }
            evaluation.writer.version = version
            evaluate(routed, of: group, term: term)
            group.advance()
        }
        return true
    }

    private func evaluate(_ routed: RoutedCommand, of group: PendingGroup, term: Term) {
        if refusal == nil { evaluateOne(routed, of: group, term: term) }
        // Refused just now, or earlier in this run: what was evaluated since may rest on it.
        if let refusal {
            group.append(refusedWith: refusal.text(hasEffects: false))
            return
        }
        if openGroups.last !== group {
            openGroups.append(group)
            group.openSegment()
        }
        group.append(evaluation.writer.bytes[...], hasEffects: !evaluation.effects.isEmpty)
        commitEffects()
    }

    private func evaluateOne(_ routed: RoutedCommand, of group: PendingGroup, term: Term) {
        evaluation.writer.removeAll()
        if group.replyBytes > settings.outputBytes, routed.mayReplyAtLength {
            evaluation.effects.removeAll()
            evaluation.writer.error(
                "BUSY the replies to commands that came together exceed"
                    + " \(settings.outputBytes) bytes")
        } else {
            evaluation.evaluate(routed.id, routed.command)
        }
        let bytes = evaluation.effects.reduce(0) { $0 + $1.byteCount }
        if !batch.isEmpty, batch.byteCount + bytes > Limits.groupBytes { endSegment(term: term) }
    }

    /// Moves the command's effects into the open segment's batch and the overlay.
    private func commitEffects() {
        for effect in evaluation.effects {
            switch effect {
            case .put(let key, let value):
                if let expiry = value.expiry {
                    batch.put(key.bytes, [UInt8](value.bytes), expiry: expiry)
                } else {
                    key.bytes.withUnsafeBytes { keyBytes in
                        value.bytes.withUnsafeBytes { batch.put(keyBytes, $0) }
                    }
                }
                evaluation.overlay.put(key, value, proposal: nextNumber)
            case .delete(let key):
                batch.delete(key.bytes)
                evaluation.overlay.delete(key, proposal: nextNumber)
            case .deleteRange(let span):
                batch.deleteRange(span.start, span.end)
                evaluation.overlay.deleteRange(span, proposal: nextNumber)
            }
        }
    }

    // MARK: Segments

    /// Proposes the open segment's effects, or asks for confirmation if it has none.
    private func endSegment(term: Term) {
        guard !openGroups.isEmpty else { return }
        let number = nextNumber
        nextNumber += 1
        let groups = openGroups
        openGroups.removeAll(keepingCapacity: true)
        for group in groups { group.closeSegment(awaiting: number) }
        let effects = batch
        batch = WriteBatch()
        awaited[number] = Awaited(
            term: term, isProposal: !effects.isEmpty, bytes: effects.byteCount, groups: groups)
        if effects.isEmpty {
            awaitDependency(groups)
            confirm(number, term: term)
        } else {
            bytesInFlight += effects.byteCount
            proposalsInFlight += 1
            propose(effects, number, term: term)
        }
    }

    /// Lets the segment wait for the newest proposal in flight that it read from.
    private func awaitDependency(_ groups: [PendingGroup]) {
        let number = evaluation.dependency
        guard awaited[number] != nil else { return }
        awaited[number]?.groups.append(contentsOf: groups)
        for group in groups { group.awaitToo(number) }
    }

    private func confirm(_ number: UInt64, term: Term) {
        service.linearizableRead { [self] result in
            // Compared here, on the replica's thread: a member that lost its leadership can have
            // reads confirmed, but they say nothing of what it evaluated before.
            switch result {
            case .success where service.evaluatingTerm == term:
                post(.resolved(number, .applied(.zero)))
            case .success: post(.resolved(number, .refused(ReplyText.leadershipLost)))
            case .failure(let refusal):
                post(.resolved(number, .refused(ReplyText.refusal(refusal))))
            }
        }
    }

    private func propose(_ effects: WriteBatch, _ number: UInt64, term: Term) {
        service.propose(effects, term: term) { [self] outcome in
            post(.resolved(number, Resolution(outcome)))
        }
        // A refusal that is known already must be heeded before the next command is evaluated.
        let early = inbox.withLock { inbox -> Resolution? in
            for case .resolved(number, let resolution) in inbox.events { return resolution }
            return nil
        }
        if let early, !early.isApplied { refusal = early }
    }

    private func resolve(_ number: UInt64, _ resolution: Resolution) {
        guard let entry = awaited.removeValue(forKey: number) else { return }
        bytesInFlight -= entry.bytes
        if entry.isProposal, entry.term == evaluation.overlay.term {
            proposalsInFlight -= 1
            if resolution.isApplied {
                evaluation.overlay.remove(through: number)
            } else if refusal == nil {
                refusal = resolution
            }
        }
        for group in entry.groups {
            group.resolutions.append((number, resolution))
            release(group)
        }
    }

    /// One of the things that a group waits for has ended.
    private func release(_ group: PendingGroup) {
        group.open -= 1
        if group.open == 0 { group.request.completion(.replied(group.bundle())) }
    }
}
