// One client connection: takes bytes in, keeps its commands in order, gives replies out. A channel
// handler; everything runs on the channel's event loop.
//
// Order: commands wait in a queue. The longest run of commands of one kind at its head becomes a
// batch, and the next batch starts when that one is answered. So a read sees the writes before it,
// a later write cannot be seen by a read before it, and writes that arrive together are proposed
// together.
//
// Bounds: reading pauses while the queue is full or the client does not take its replies; a client
// that takes none for a while at `outputBytes` is closed.
import Engine
import NIOCore
import Synchronization

package final class Session: ChannelInboundHandler, @unchecked Sendable {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

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
    private var parser: RESPParser
    private var input: ByteBuffer?
    private var queue: [Queued] = []
    private var queueHead = 0
    private var queuedBytes = 0
    private var inFlight: ClientBatch?
    /// Cleared once what follows in the input means nothing.
    private var isParsing = true
    /// Set by QUIT, an error or a stop: what is queued before it is answered, then it closes.
    private var isClosing = false
    private var isInputClosed = false
    private var isReadPending = false
    private var isDirty = false
    private var isCloseScheduled = false
    private var accountedBytes = 0
    private var writtenBytes = 0
    /// Bytes that the client had taken when it was last looked at for standing still.
    private var takenBytes: Int?

    private var settings: RESPSettings { environment.settings }
    private var queuedCount: Int { queue.count - queueHead }

    package init(loop: ClientLoop) {
        self.loop = loop
        environment = loop.environment
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
        loop.add(self, id: record.id)
        requestInput()
    }

    package func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        self.context = nil
        inFlight = nil
        queue = []
        queueHead = 0
        queuedBytes = 0
        input = nil
        loop.inputBytes -= accountedBytes
        accountedBytes = 0
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

    /// Parses as much as the bounds allow; true if it stopped for them and not for want of bytes.
    private func parse() -> Bool {
        guard isParsing, var bytes = input else { return false }
        input = nil
        var isBounded = false
        do throws(RESPProtocolError) {
            while isParsing {
                isBounded = !hasRoom
                guard !isBounded, let parsed = try parser.next(&bytes) else { break }
                enqueue(parsed)
            }
        } catch {
            end(with: error.reply)
        }
        if isParsing, bytes.readableBytes > 0 {
            bytes.discardReadBytes()
            input = bytes
        }
        account()
        return isBounded && input != nil
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
                let bytes = command.bytes.count + 32
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
        isParsing = false
        input = nil
    }

    /// Counts this session's input into the loop's, and ends the session that exceeds it.
    private func account() {
        let bytes = queuedBytes + parser.partialBytes + (input?.readableBytes ?? 0)
        loop.inputBytes += bytes - accountedBytes
        accountedBytes = bytes
        if loop.inputBytes > settings.inputBytes, bytes > 64 << 10, isParsing {
            end(with: "ERR input of all clients is above the limit of \(settings.inputBytes) bytes")
        }
    }

    private func requestInput() {
        let wantsInput =
            isParsing && !isInputClosed && !isClosing && !isReadPending && hasRoom
        guard wantsInput, let context, context.channel.isWritable else { return }
        isReadPending = true
        context.read()
    }

    // MARK: Execution

    /// Parses, executes what the session can execute itself, starts the next batch.
    private func advance() {
        var isBounded = true
        // What was executed may have made room for more of the input.
        while isBounded, inFlight == nil {
            isBounded = parse()
            executeQueue()
            if !canExecute { break }
        }
        if queueHead == queue.count {
            queue.removeAll(keepingCapacity: queue.capacity <= 1024)
            queueHead = 0
        }
        if isInputClosed, inFlight == nil, queuedCount == 0 { isClosing = true }
    }

    private var canExecute: Bool {
        !isClosing && !isClosed && (context?.channel.isWritable ?? false)
    }

    private func executeQueue() {
        while inFlight == nil, canExecute, queueHead < queue.count {
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
        while queueHead < queue.count, commands.count < most, bytes < settings.batchBytes,
            case .command(let routed, family, let size) = queue[queueHead]
        {
            commands.append(routed)
            bytes += size
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
        if let unanswered, unanswered < batch.commands.count {
            requeue(batch.commands[unanswered...], family: batch.family)
        }
        markDirty()
        advance()
    }

    private func requeue(_ commands: ArraySlice<RoutedCommand>, family: CommandFamily) {
        let again = commands.map { routed -> Queued in
            let bytes = routed.command.bytes.count + 32
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

    /// Hands all replies to the channel in one write.
    func flush() {
        isDirty = false
        guard let context else { return }
        if output.count > 0 {
            let buffer = context.channel.allocator.buffer(bytes: output.bytes)
            environment.statistics.bytesSent.add(output.count)
            writtenBytes += output.count
            if output.count > 64 << 10 { output = RESPWriter(version: version) }
            output.removeAll()
            context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
        }
        if isClosing {
            closeWhenSent(context)
        } else {
            requestInput()
        }
    }

    /// QUIT: no command behind it is executed.
    func closeAfterReplies() {
        isClosing = true
        isParsing = false
        input = nil
    }

    private func closeWhenSent(_ context: ChannelHandlerContext) {
        guard !isCloseScheduled else { return }
        isCloseScheduled = true
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            channel.close(promise: nil)
        }
        // A client that reads nothing any more is not waited for.
        let patience = TimeAmount.milliseconds(settings.outputStallMilliseconds)
        let timer = loop.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
        channel.closeFuture.whenComplete { _ in timer.cancel() }
    }

    package func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            takenBytes = nil
            advance()
            flush()
        } else if takenBytes == nil {
            takenBytes = taken(from: context.channel)
            watchStall()
        }
    }

    /// Closes the client if it takes nothing between two looks.
    private func watchStall() {
        loop.eventLoop.scheduleTask(in: .milliseconds(settings.outputStallMilliseconds)) { [self] in
            guard let before = takenBytes, let context else { return }
            let taken = taken(from: context.channel)
            guard taken > before else {
                environment.statistics.slowClientsClosed.add(1)
                return closeNow()
            }
            takenBytes = taken
            watchStall()
        }
    }

    private func taken(from channel: any Channel) -> Int {
        writtenBytes - ((try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0)
    }
}
