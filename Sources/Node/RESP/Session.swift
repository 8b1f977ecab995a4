// One client connection: takes bytes in, keeps its commands in order, gives replies out. A channel
// handler; everything runs on the channel's event loop.
//
// Order: commands wait in a queue. The longest run of commands of one kind at its head becomes a
// batch, and the next batch starts when that one is answered. So a read sees the writes before it,
// a later write cannot be seen by a read before it, and writes that arrive together are proposed
// together. Point reads between writes do not end a run: the leader evaluates them, too.
//
// Bounds: reading pauses while the queue is full. Reading and execution pause while the client has
// `outputPauseBytes` of replies to take; one that then takes none for a while is closed. What all
// sessions hold together is bounded by `ClientMemory`.
import Engine
import NIOCore
import Synchronization

package final class Session: ChannelInboundHandler, @unchecked Sendable {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    /// Replies go to the channel in pieces of this size: each is let go of as soon as it is taken.
    private static let pieceBytes = 256 << 10
    /// Replies that go out at once instead of with all others of the turn.
    private static let promptBytes = 64 << 10

    /// Something that the client waits for an answer to.
    private enum Queued {
        case command(RoutedCommand, CommandFamily, bytes: Int)
        /// An error reply that takes this place in the order.
        case refused(String)
        /// An error reply, and the end of the connection.
        case fatal(String)
    }

    let loop: ClientLoop
    let environment: SessionEnvironment
    private(set) var record: ClientRecord?
    /// What the client chose: RESP2 until HELLO says otherwise.
    var version = RESPVersion.two
    var isReadonly = false
    /// Replies that are not handed to the channel yet.
    var output = RESPWriter(version: .two)
    /// The last log index that may hold a write of this connection.
    private(set) var lastWriteIndex = LogIndex.zero
    /// A log index up to which this connection's writes are known to be applied here.
    var seenIndex = LogIndex.zero
    private(set) var isClosed = false

    private var context: ChannelHandlerContext?
    private var socket: ReplySocket?
    private var parser: RESPParser
    private var input: ByteBuffer?
    private var queue: [Queued] = []
    private var queueHead = 0
    private var queuedBytes = 0
    private var inFlight: ClientBatch?
    /// Of a `WAIT` in flight: nobody wants to know any more.
    var waiting: CancellationFlag?
    /// Cleared once what follows in the input means nothing.
    private var isParsing = true
    /// Set by QUIT, an error or a stop: what is queued before it is answered, then it closes.
    private var isClosing = false
    private var isInputClosed = false
    private var isReadPending = false
    private var isDirty = false
    private var isCloseScheduled = false
    /// What is parsed stopped for the bounds and not for want of bytes.
    private var isInputHeld = false
    /// The next command waits until the replies of all clients take less memory.
    private var isWaitingForRoom = false
    private var isSending = false
    private var progress: OutputProgress
    private var stallTimer: Scheduled<Void>?
    /// What `environment.input` and `environment.output` know of this session.
    private(set) var accountedBytes = 0
    private var accountedOutputBytes = 0

    private var settings: RESPSettings { environment.settings }
    private var queuedCount: Int { queue.count - queueHead }

    package init(loop: ClientLoop) {
        self.loop = loop
        environment = loop.environment
        progress = OutputProgress(now: loop.eventLoop.now)
        parser = RESPParser(settings: loop.environment.settings)
    }

    // MARK: Life

    package func channelActive(context: ChannelHandlerContext) {
        self.context = context
        let statistics = environment.statistics
        guard
            let record = environment.clients.add(
                address: Session.text(context.remoteAddress),
                localAddress: Session.text(context.localAddress), now: loop.eventLoop.now,
                limit: settings.clientsMax)
        else {
            statistics.connectionsRejected.add(1)
            output.error(ReplyText.clientsMax)
            isClosing = true
            return flush()
        }
        statistics.connectionsReceived.add(1)
        self.record = record
        socket = ReplySocket(context.channel)
        loop.add(self, id: record.id)
        requestInput()
    }

    package func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        self.context = nil
        socket = nil
        stallTimer?.cancel()
        letGo()
        guard let record else { return }
        self.record = nil
        environment.clients.remove(record.id)
        loop.remove(id: record.id)
    }

    /// A broken connection: nobody is left to tell.
    package func errorCaught(context: ChannelHandlerContext, error: any Error) { closeNow() }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .some(.inputClosed) = event as? ChannelEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        isInputClosed = true
        // WAIT could last for ever on a client that is gone; all else ends by itself.
        if inFlight?.family == .wait { return closeNow() }
        beginDrain()
    }

    /// Answers what has arrived whole, then closes.
    func beginDrain() {
        isInputClosed = true
        advance()
        flush()
    }

    func closeNow() { context?.close(promise: nil) }

    /// Gives back all memory: nothing that came or is to go matters any more.
    private func letGo() {
        inFlight = nil
        waiting?.cancel()
        queue = []
        queueHead = 0
        queuedBytes = 0
        dropInput()
        output = RESPWriter(version: version)
        isClosed = true
        account()
        accountOutput()
    }

    private func dropInput() {
        isParsing = false
        isInputHeld = false
        input = nil
        parser = RESPParser(settings: settings)
    }

    private static func text(_ address: SocketAddress?) -> String {
        guard let address, let port = address.port else { return "?:0" }
        let host = address.ipAddress ?? "?"
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    // MARK: Input

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard isParsing, !isInputClosed else { return }
        var arrived = unwrapInboundIn(data)
        environment.statistics.bytesReceived.add(arrived.readableBytes)
        if input == nil {
            input = arrived
        } else {
            input?.writeBuffer(&arrived)
        }
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        isReadPending = false
        advance()
        flush()
    }

    private var hasRoom: Bool {
        queuedCount + (inFlight?.commands.count ?? 0) < settings.pipelineCommands
            && queuedBytes < settings.pipelineBytes
    }

    /// Parses as much as the bounds allow.
    private func parse() {
        isInputHeld = false
        guard isParsing, var bytes = input else { return }
        input = nil
        do throws(RESPProtocolError) {
            while isParsing {
                isInputHeld = !hasRoom
                guard !isInputHeld, let parsed = try parser.next(&bytes) else { break }
                enqueue(parsed)
            }
        } catch {
            end(with: error.reply)
        }
        if isParsing, bytes.readableBytes > 0 {
            bytes.discardReadBytes()
            input = bytes
        } else {
            isInputHeld = false
        }
    }

    private func enqueue(_ parsed: ParsedInput) {
        switch parsed {
        case .refused(let text): queue.append(.refused(text))
        case .command(let command):
            switch CommandTable.shared.resolve(command, keyBytes: Limits.keyBytes) {
            case .refused(let text):
                // A browser that was led here to do harm; what follows would be its header lines.
                if command.matches(0, "POST") || command.matches(0, "HOST:") {
                    return end(with: "ERR this is not an HTTP port")
                }
                queue.append(.refused(text))
            case .found(let id):
                let bytes = command.memoryBytes
                queuedBytes += bytes
                queue.append(
                    .command(
                        RoutedCommand(id: id, command: command), CommandTable.shared[id].family,
                        bytes: bytes))
            }
        }
    }

    /// The input from here on means nothing.
    private func end(with text: String) {
        queue.append(.fatal(text))
        dropInput()
    }

    /// Counts this session's input into that of all clients.
    private func account() {
        let bytes =
            isClosed ? 0 : queuedBytes + parser.partialBytes + (input?.storageCapacity ?? 0)
        let before = accountedBytes
        accountedBytes = bytes
        environment.input.change(from: before, to: bytes)
        if bytes > before, environment.input.isFull { environment.relief.ask() }
    }

    /// The input of all clients is above its limit, and this one holds more than its share.
    func closeForInput() {
        if isParsing {
            environment.statistics.inputLimitClosed.add(1)
            end(with: ReplyText.inputFull(settings.inputBytes))
            advance()
            flush()
            // It is told why behind what it asked before.
            if isClosing || inFlight != nil { return }
        }
        // It cannot be told, or not soon.
        letGo()
        closeNow()
    }

    private func requestInput() {
        let wantsInput =
            isParsing && !isInputClosed && !isClosing && !isReadPending && hasRoom
        guard wantsInput, unsentBytes < settings.outputPauseBytes, let context else { return }
        isReadPending = true
        context.read()
    }

    // MARK: Execution

    /// Parses, executes what the session can execute itself, starts the next batch.
    private func advance() {
        repeat {
            parse()
            executeQueue()
            // What was executed may have made room for more of the input.
        } while isInputHeld && canExecute
        if queueHead == queue.count {
            queue.removeAll(keepingCapacity: queue.capacity <= 1024)
            queueHead = 0
        }
        if isInputClosed, inFlight == nil, queuedCount == 0 { isClosing = true }
        account()
    }

    private var canExecute: Bool {
        inFlight == nil && !isClosing && !isClosed && !isWaitingForRoom
            && unsentBytes < settings.outputPauseBytes
    }

    private func executeQueue() {
        while canExecute, queueHead < queue.count {
            if case .command(let routed, _, _) = queue[queueHead], routed.mayReplyAtLength,
                environment.output.isFull
            {
                isWaitingForRoom = true
                return loop.waitForRoom(self)
            }
            output.version = version
            switch queue[queueHead] {
            case .refused(let text):
                queueHead += 1
                output.error(text)
            case .fatal(let text):
                queueHead += 1
                output.error(text)
                isClosing = true
            case .command(let routed, .connection, let bytes):
                queueHead += 1
                queuedBytes -= bytes
                note(routed.id, count: 1)
                execute(routed.id, routed.command)
            case .command(_, let family, _): startBatch(family)
            }
        }
    }

    private func startBatch(_ family: CommandFamily) {
        var commands: [RoutedCommand] = []
        var bytes = 0
        let most = family == .wait ? 1 : settings.batchCommands
        var commandBytes = 0
        var readsLeft = isReadonly ? 0 : max(1, settings.outputBytes / settings.valueBytes)
        while queueHead < queue.count, commands.count < most, commandBytes < settings.batchBytes,
            case .command(let routed, let other, let size) = queue[queueHead]
        {
            if other != family {
                // Small reads between writes go the writes' way, in one batch with them.
                guard family == .evaluated, routed.isEvaluable else { break }
                if other == .read {
                    guard readsLeft > 0 else { break }
                    readsLeft -= 1
                }
            }
            commands.append(routed)
            bytes += size
            commandBytes += routed.command.bytes.count + 32
            // Lets go of the bytes; the place is reused when the queue is empty.
            queue[queueHead] = .refused("")
            queueHead += 1
        }
        let batch = ClientBatch(
            session: self, commands: commands, version: version, family: family,
            isReadonly: isReadonly, bytes: bytes,
            deadline: loop.eventLoop.now + .milliseconds(settings.retryMilliseconds))
        inFlight = batch
        note(commands[commands.count - 1].id, count: commands.count)
        loop.dispatch(batch)
    }

    private func note(_ id: CommandID, count: Int) {
        environment.statistics.commandsProcessed.add(count)
        record?.fields.withLock { fields in
            fields.lastCommand = id
            fields.lastActive = loop.eventLoop.now
            fields.version = version
            fields.isReadonly = isReadonly
            fields.queryBytes = queuedBytes
        }
    }

    /// Takes the replies to the batch in flight. Commands from `unanswered` on have none yet and go
    /// next.
    func finish(
        _ batch: ClientBatch, _ replies: ArraySlice<UInt8>, writeIndex: LogIndex = .zero,
        unanswered: Int? = nil
    ) {
        guard !isClosed, inFlight === batch else { return }
        inFlight = nil
        lastWriteIndex = max(lastWriteIndex, writeIndex)
        queuedBytes -= batch.bytes
        output.append(replies)
        accountOutput()
        if let unanswered, unanswered < batch.commands.count {
            requeue(batch.commands[unanswered...], family: batch.family)
        }
        if output.count >= Session.promptBytes { send() }
        advance()
        markDirty()
    }

    private func requeue(_ commands: ArraySlice<RoutedCommand>, family: CommandFamily) {
        let again = commands.map { routed -> Queued in
            let bytes = routed.command.memoryBytes
            queuedBytes += bytes
            return .command(routed, family, bytes: bytes)
        }
        queue.replaceSubrange(0..<queueHead, with: again)
        queueHead = 0
    }

    // MARK: Output

    private func markDirty() {
        guard !isDirty else { return }
        isDirty = true
        loop.markDirty(self)
    }

    /// Replies that the client has not taken.
    var unsentBytes: Int { isClosed ? 0 : output.count + progress.pending }

    /// Hands all replies to the channel and goes on with what waited for that.
    func flush() {
        isDirty = false
        send()
        while canExecute, isInputHeld || queueHead < queue.count {
            advance()
            send()
        }
        guard let context else { return }
        if isClosing {
            closeWhenSent(context)
        } else {
            requestInput()
        }
        watchStall()
    }

    private func send() {
        guard let context, output.count > 0 else { return }
        environment.statistics.bytesSent.add(output.count)
        // What the channel holds goes first.
        let taken = progress.pending == 0 ? socket?.send(output.bytes) ?? 0 : 0
        if taken > 0 { progress.passed(now: loop.eventLoop.now) }
        if taken < output.count { write(from: taken, to: context) }
        if output.count > Session.promptBytes { output = RESPWriter(version: version) }
        output.removeAll()
        accountOutput()
    }

    /// Gives the channel the replies from `offset` on.
    private func write(from offset: Int, to context: ChannelHandlerContext) {
        isSending = true
        for start in stride(from: offset, to: output.count, by: Session.pieceBytes) {
            let end = min(start + Session.pieceBytes, output.count)
            let piece = context.channel.allocator.buffer(bytes: output.bytes[start..<end])
            let promise = loop.eventLoop.makePromise(of: Void.self)
            promise.futureResult.whenComplete { [self] result in
                if case .success = result { released(end - start) }
            }
            progress.wrote(end - start, now: loop.eventLoop.now)
            context.write(wrapOutboundOut(piece), promise: promise)
        }
        context.flush()
        isSending = false
    }

    /// The client has taken `count` bytes, or its machine has for it. A write that fails ends the
    /// connection, and everything is let go of there.
    private func released(_ count: Int) {
        progress.released(count, now: loop.eventLoop.now)
        // Within `write` its caller sees to the rest.
        guard !isSending, !isClosed else { return }
        accountOutput()
        if unsentBytes < settings.outputPauseBytes { flush() }
    }

    /// Counts what the client has not taken into that of all clients.
    private func accountOutput() {
        let (before, bytes) = (accountedOutputBytes, unsentBytes)
        guard bytes != before else { return }
        accountedOutputBytes = bytes
        environment.output.change(from: before, to: bytes)
        record?.outputBytes.store(bytes, ordering: .relaxed)
        if bytes > before, environment.output.isFull { environment.relief.ask() }
    }

    /// The replies of all clients are above their limit, this client holds more than its share of
    /// them and takes nothing.
    func closeForOutput() {
        environment.statistics.outputLimitClosed.add(1)
        letGo()
        closeNow()
    }

    /// There is room for replies again.
    func roomIsThere() {
        isWaitingForRoom = false
        if !isClosed { flush() }
    }

    /// QUIT: no command behind it is executed.
    func closeAfterReplies() {
        isClosing = true
        dropInput()
    }

    private func closeWhenSent(_ context: ChannelHandlerContext) {
        guard !isCloseScheduled else { return }
        isCloseScheduled = true
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            channel.close(promise: nil)
        }
    }

    // MARK: Clients that take nothing

    var lastTaken: NIODeadline { progress.lastTaken }

    func lookAtOutput(now: NIODeadline) {
        guard progress.pending > 0, let channel = context?.channel else { return }
        let buffered = try? channel.syncOptions?.getOption(.bufferedWritableBytes)
        progress.look(buffered: buffered ?? 0, now: now)
    }

    /// Whether the client holds up its own commands, or the end of the connection.
    private var isHeldUp: Bool {
        unsentBytes >= settings.outputPauseBytes || (isClosing && progress.pending > 0)
    }

    /// Closes a client that is held up and has taken nothing for `outputStallMilliseconds`.
    private func watchStall() {
        guard stallTimer == nil, isHeldUp, !isClosed else { return }
        let patience = TimeAmount.milliseconds(settings.outputStallMilliseconds)
        stallTimer = loop.eventLoop.scheduleTask(deadline: lastTaken + patience) { [weak self] in
            guard let self else { return }
            stallTimer = nil
            lookAtOutput(now: loop.eventLoop.now)
            guard isHeldUp, loop.eventLoop.now - lastTaken >= patience else { return watchStall() }
            environment.statistics.slowClientsClosed.add(1)
            closeNow()
        }
    }
}
