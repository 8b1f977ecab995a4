// The sessions of one event loop, and what they share with each other: everything that arrives in
// one turn of the loop goes out together. Writes of a turn go to the evaluator in one request, or
// to the leader in one message; reads of a turn share one confirmation, asked for after all of them
// arrived and joined by none that comes later.
//
// What was certainly not evaluated is tried again until its deadline, off one timer. What may have
// been evaluated is never sent again.
//
// While a limit over all clients is exceeded, every loop looks at its sessions from time to time
// and closes those that hold too much (`ClientMemory`).
//
// Everything here runs on the event loop; completions of the replica and the evaluator come from
// other threads and only hop here, once per group.
import Engine
import NIOCore
import Replication
import Synchronization

/// Commands of one session in execution. A session has at most one such batch, which is what keeps
/// its commands in order.
final class ClientBatch {
    let session: Session
    let commands: [RoutedCommand]
    let version: RESPVersion
    let family: CommandFamily
    let isReadonly: Bool
    /// Bytes of its commands.
    let bytes: Int
    /// When waiting for a leader ends.
    let deadline: NIODeadline

    init(
        session: Session, commands: [RoutedCommand], version: RESPVersion, family: CommandFamily,
        isReadonly: Bool, bytes: Int, deadline: NIODeadline
    ) {
        self.session = session
        self.commands = commands
        self.version = version
        self.family = family
        self.isReadonly = isReadonly
        self.bytes = bytes
        self.deadline = deadline
    }
}

/// Carries batches through completions that run elsewhere; opened on their own loop only.
private struct LoopBatches: @unchecked Sendable {
    let batches: [ClientBatch]
}

package final class ClientLoop: @unchecked Sendable {
    static let retryInterval = TimeAmount.milliseconds(20)
    static let reliefInterval = TimeAmount.milliseconds(50)

    let eventLoop: any EventLoop
    let environment: SessionEnvironment
    private var sessions: [UInt64: Session] = [:]
    private var turn: [ClientBatch] = []
    private var retries: [ClientBatch] = []
    private var isRetryScheduled = false
    private var dirty: [Session] = []
    private var drained: EventLoopPromise<Void>?
    /// Sessions whose next command waits until the replies of all clients take less memory.
    private var waitingForRoom: [Session] = []
    /// Set while this loop looks after its sessions because a limit is exceeded.
    private let isRelieving = Atomic<Bool>(false)

    private var service: any ReplicaService { environment.service }
    private var settings: RESPSettings { environment.settings }

    package init(eventLoop: any EventLoop, environment: SessionEnvironment) {
        self.eventLoop = eventLoop
        self.environment = environment
        environment.relief.add { [weak self] in self?.askForRelief() }
    }

    func add(_ session: Session, id: UInt64) {
        sessions[id] = session
        if drained != nil { session.beginDrain() }
    }

    func remove(id: UInt64) {
        sessions.removeValue(forKey: id)
        if sessions.isEmpty { drained?.succeed(()) }
    }

    // MARK: Turns

    /// Queues a batch for the end of this turn of the loop.
    func dispatch(_ batch: ClientBatch) {
        turn.append(batch)
        guard turn.count == 1 else { return }
        eventLoop.execute { [self] in endTurn() }
    }

    private func endTurn() {
        let batches = turn
        turn = []
        var writes: [ClientBatch] = []
        var reads: [ClientBatch] = []
        for batch in batches where !batch.session.isClosed && hasRoom(for: batch) {
            switch batch.family {
            case .evaluated: writes.append(batch)
            case .read:
                if batch.isReadonly { readBounded(batch) } else { reads.append(batch) }
            case .administration: administer(batch)
            case .wait: wait(batch)
            case .connection: brokenInvariant("a connection command was dispatched")
            }
        }
        if !writes.isEmpty { write(writes) }
        if !reads.isEmpty { confirm(reads) }
        flushDirty()
    }

    func markDirty(_ session: Session) { dirty.append(session) }

    private func flushDirty() {
        let sessions = dirty
        dirty = []
        for session in sessions { session.flush() }
    }

    /// Runs `body` on the loop and sends what it answered.
    private func hop(
        _ batches: [ClientBatch],
        _ body: @escaping @Sendable (ClientLoop, [ClientBatch]) -> Void
    ) {
        let carried = LoopBatches(batches: batches)
        eventLoop.execute { [self] in
            body(self, carried.batches)
            flushDirty()
        }
    }

    // MARK: Writes

    private func write(_ batches: [ClientBatch]) {
        if service.evaluatingTerm != nil {
            let carried = LoopBatches(batches: batches)
            environment.evaluator.submit(
                EvaluationRequest(batches: batches.map(ClientLoop.portable)) { [self] result in
                    hop(carried.batches) { $0.evaluated($1, result) }
                })
            return
        }
        var message: [ClientBatch] = []
        var (bytes, commands) = (0, 0)
        for batch in batches {
            if !message.isEmpty,
                bytes >= settings.batchBytes
                    || commands + batch.commands.count > ForwardCodec.commandsMax
            {
                forward(message)
                message = []
                (bytes, commands) = (0, 0)
            }
            message.append(batch)
            bytes += batch.bytes
            commands += batch.commands.count
        }
        if !message.isEmpty { forward(message) }
    }

    private static func portable(_ batch: ClientBatch) -> CommandBatch {
        CommandBatch(version: batch.version, commands: batch.commands)
    }

    private func forward(_ batches: [ClientBatch]) {
        environment.statistics.forwardedAway.add(1)
        let carried = LoopBatches(batches: batches)
        let request = ForwardCodec.encode(batches.map(ClientLoop.portable))
        service.forward(request) { [self] outcome in
            switch outcome {
            case .notSent(let reason):
                hop(carried.batches) { $0.evaluated($1, .notEvaluated(reason: reason)) }
            case .unknown: hop(carried.batches) { $0.uncertain($1) }
            case .answered(let bytes):
                // An answer that cannot be read says nothing of what the leader did.
                if let result = try? ForwardCodec.decodeReply(bytes) {
                    hop(carried.batches) { $0.evaluated($1, result) }
                } else {
                    hop(carried.batches) { $0.uncertain($1) }
                }
            }
        }
    }

    private func evaluated(_ batches: [ClientBatch], _ result: EvaluationResult) {
        switch result {
        case .notEvaluated(let reason):
            for batch in batches { retry(batch, ReplyText.clusterDown("no leader: \(reason)")) }
        case .replied(let bundle):
            let count = batches.reduce(0) { $0 + $1.commands.count }
            guard bundle.ends.count == count else { return uncertain(batches) }
            var start = 0
            for batch in batches {
                let end = start + batch.commands.count
                batch.session.finish(
                    batch, bundle.slice(start..<end), writeIndex: bundle.writeIndex)
                start = end
            }
        }
    }

    /// The leader may have evaluated these: never sent again.
    private func uncertain(_ batches: [ClientBatch]) {
        for batch in batches {
            environment.statistics.uncertainReplies.add(batch.commands.count)
            fail(batch, ReplyText.uncertainForward)
        }
    }

    // MARK: Reads

    private func confirm(_ batches: [ClientBatch]) {
        let carried = LoopBatches(batches: batches)
        service.linearizableRead { [self] result in
            hop(carried.batches) { $0.confirmed($1, result) }
        }
    }

    private func confirmed(_ batches: [ClientBatch], _ result: Result<ReadPermit, ServiceRefusal>) {
        for batch in batches {
            switch result {
            case .success(let permit): read(batch, now: permit.clock)
            case .failure(.stopped): fail(batch, ReplyText.refusal(.stopped))
            case .failure(let refusal): retry(batch, ReplyText.refusal(refusal))
            }
        }
    }

    /// A READONLY connection still reads its own writes: if they have not arrived here, it reads
    /// like any other.
    private func readBounded(_ batch: ClientBatch) {
        let written = batch.session.lastWriteIndex
        if written > batch.session.seenIndex {
            guard service.status().applied >= written else { return confirm([batch]) }
            batch.session.seenIndex = written
        }
        confirmed([batch], service.boundedRead(staleness: settings.stalenessMilliseconds))
    }

    private func read(_ batch: ClientBatch, now: ClockMilliseconds) {
        guard !batch.session.isClosed, hasRoom(for: batch) else { return }
        // One view for the whole batch: no command sees half of an atomic write.
        var run = ReadRun(
            reader: service.reader.pinned(), now: now, settings: settings, version: batch.version)
        switch run.run(batch.commands, io: .cacheOnly) {
        case .wouldBlock:
            let (commands, blocked) = (batch.commands, run)
            answerInPool(batch, held: run.writer.count) {
                var run = blocked
                _ = run.run(commands, io: .blocking)
                return run.answer
            }
        case .finished, .full: answered(batch, run.answer)
        }
    }

    private func answered(_ batch: ClientBatch, _ answer: BatchAnswer) {
        let statistics = environment.statistics
        statistics.keyspaceHits.add(answer.hits)
        statistics.keyspaceMisses.add(answer.misses)
        batch.session.finish(batch, answer.bytes[...], unanswered: answer.next)
    }

    /// Lets the pool answer a batch. Replies count as output from when they exist: `held` bytes of
    /// them are kept by `work` already.
    private func answerInPool(
        _ batch: ClientBatch, held: Int, _ work: @escaping @Sendable () -> BatchAnswer
    ) {
        let carried = LoopBatches(batches: [batch])
        let output = environment.output
        output.add(held)
        environment.runBlocking { [self] in
            // Many may have waited for a thread together.
            guard output.bytes - held < output.limit else {
                output.add(-held)
                return hop(carried.batches) { $0.retryFull($1[0]) }
            }
            let answer = work()
            output.add(answer.bytes.count - held)
            hop(carried.batches) {
                output.add(-answer.bytes.count)
                $0.answered($1[0], answer)
            }
        }
    }

    // MARK: The rest

    private func administer(_ batch: ClientBatch) {
        let report = AdministrationReport(environment: environment)
        let (commands, version, most) = (batch.commands, batch.version, settings.batchBytes)
        answerInPool(batch, held: 0) {
            var writer = RESPWriter(version: version)
            var next = 0
            while next < commands.count, writer.count < most {
                report.answer(commands[next].id, commands[next].command, into: &writer)
                next += 1
            }
            return BatchAnswer(bytes: writer.bytes, next: next)
        }
    }

    private func wait(_ batch: ClientBatch) {
        let command = batch.commands[0].command
        guard let count = command.integer(1) else { return fail(batch, ReplyText.notInteger) }
        guard let timeout = command.integer(2) else {
            return fail(batch, "ERR timeout is not an integer or out of range")
        }
        guard timeout >= 0 else { return fail(batch, "ERR timeout is negative") }
        let carried = LoopBatches(batches: [batch])
        let cancellation = CancellationFlag()
        batch.session.waiting = cancellation
        service.wait(
            for: batch.session.lastWriteIndex, count: Int(clamping: count),
            timeout: UInt64(timeout), cancellation: cancellation
        ) { [self] reached in
            hop(carried.batches) { _, batches in
                var writer = RESPWriter(version: batches[0].version)
                writer.integer(reached)
                batches[0].session.finish(batches[0], writer.bytes[...])
            }
        }
    }

    // MARK: Memory of all clients

    /// False if the batch has to wait, which is seen to.
    private func hasRoom(for batch: ClientBatch) -> Bool {
        guard environment.output.isFull, batch.commands.contains(where: \.mayReplyAtLength) else {
            return true
        }
        retryFull(batch)
        return false
    }

    private func retryFull(_ batch: ClientBatch) {
        askForRelief()
        retry(batch, ReplyText.outputFull(settings.outputTotalBytes))
    }

    /// Flushes `session` when there is room for replies again.
    func waitForRoom(_ session: Session) {
        waitingForRoom.append(session)
        askForRelief()
    }

    /// Any thread: a limit is exceeded.
    private func askForRelief() {
        guard !isRelieving.exchange(true, ordering: .acquiringAndReleasing) else { return }
        eventLoop.execute { [self] in relieve() }
    }

    private func relieve() {
        // Cleared before the look: whoever exceeds a limit behind it asks again.
        isRelieving.store(false, ordering: .sequentiallyConsistent)
        let now = eventLoop.now
        for session in sessions.values { session.lookAtOutput(now: now) }
        let least = RESPSettings.inputShareBytesMin
        closeGreediest(environment.input, held: \.accountedBytes, atLeast: least) {
            $0.closeForInput()
        }
        let grace = TimeAmount.milliseconds(settings.outputGraceMilliseconds)
        closeGreediest(environment.output, held: \.unsentBytes, atLeast: 0) {
            if now - $0.lastTaken >= grace { $0.closeForOutput() }
        }
        flushDirty()
        if environment.output.isFull || environment.input.isFull {
            guard !isRelieving.exchange(true, ordering: .sequentiallyConsistent) else { return }
            eventLoop.scheduleTask(in: ClientLoop.reliefInterval) { [self] in relieve() }
        } else {
            let waiting = waitingForRoom
            waitingForRoom = []
            for session in waiting { session.roomIsThere() }
        }
    }

    /// Closes who holds more than its share, the greediest first, until half of the memory is free
    /// for others.
    private func closeGreediest(
        _ memory: ClientMemory, held: (Session) -> Int, atLeast least: Int,
        _ close: (Session) -> Void
    ) {
        guard memory.isFull else { return }
        let share = max(memory.fairShare, least)
        let greedy = sessions.values.filter { held($0) > share }
        for session in greedy.sorted(by: { held($0) > held($1) }) {
            guard memory.bytes > memory.limit / 2 else { return }
            close(session)
        }
    }

    // MARK: Retries

    /// Tries a batch that was certainly not evaluated again soon, or gives up with `text`.
    private func retry(_ batch: ClientBatch, _ text: String) {
        guard eventLoop.now < batch.deadline else { return fail(batch, text) }
        retries.append(batch)
        guard !isRetryScheduled else { return }
        isRetryScheduled = true
        eventLoop.scheduleTask(in: ClientLoop.retryInterval) { [self] in
            isRetryScheduled = false
            let batches = retries
            retries = []
            for batch in batches { dispatch(batch) }
        }
    }

    /// Answers every command of a batch with one error.
    private func fail(_ batch: ClientBatch, _ text: String) {
        var writer = RESPWriter(version: batch.version)
        for _ in batch.commands { writer.error(text) }
        batch.session.finish(batch, writer.bytes[...])
    }

    // MARK: Stopping

    /// Lets every session finish what it has received and close; succeeds when all are gone.
    package func drain() -> EventLoopFuture<Void> {
        let promise = drained ?? eventLoop.makePromise(of: Void.self)
        if drained == nil {
            drained = promise
            for session in sessions.values { session.beginDrain() }
            if sessions.isEmpty { promise.succeed(()) }
        }
        return promise.futureResult
    }

    func closeAll() {
        for session in sessions.values { session.closeNow() }
    }
}
