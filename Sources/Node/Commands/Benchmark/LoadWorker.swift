// The clients of one event loop. In a closed loop a client asks again when it was answered. In an
// open loop requests come due by a schedule; one that finds every client busy waits for the first
// that is free, and its latency has begun all the same. A client whose connection is lost connects
// to the next endpoint; what it had asked counts as an error, and is never asked again.
//
// Everything but `init` and `run` happens on the event loop.
import NIOCore
import NIOPosix

final class LoadWorker: @unchecked Sendable {
    enum Outcome {
        case done
        case missing
        case failed(String)
    }

    static let reconnectDelay = TimeAmount.milliseconds(20)
    static let watchInterval = TimeAmount.milliseconds(100)

    let options: LoadOptions
    private let addresses: [SocketAddress]
    private let loop: any EventLoop
    private let share: Int
    private let clients: Int

    private var connections: [LoadConnection] = []
    private var idle = CircularBuffer<LoadConnection>()
    private var random: BenchmarkRandom
    private var values: BenchmarkValues
    private var report = LoadReport()
    private var schedule: RateSchedule?
    private var requestsLeft: UInt64 = 0
    private var isRunning = false
    private var isTimerSet = false
    private var inFlight = 0
    /// Requests due earlier are not counted.
    private var countedFrom: UInt64 = 0
    private var end: UInt64 = .max
    private var lastAnswer: UInt64 = 0
    private let finished: EventLoopPromise<LoadReport>

    init(
        _ options: LoadOptions, addresses: [SocketAddress], loop: any EventLoop, share: Int
    ) {
        self.options = options
        self.addresses = addresses
        self.loop = loop
        self.share = share
        clients = LoadWorker.part(UInt64(options.clients), share, of: options.threads)
        random = BenchmarkRandom(seed: options.seed &+ UInt64(share) &* 1000)
        values = BenchmarkValues(
            valueBytes: options.valueBytes, seed: options.seed &+ UInt64(share))
        finished = loop.makePromise()
    }

    private static func part(_ total: UInt64, _ share: Int, of shares: Int) -> Int {
        Int(total) / shares + (share < Int(total) % shares ? 1 : 0)
    }

    /// Opens every connection; the first that fails makes the whole fail.
    func connect() -> EventLoopFuture<Void> {
        loop.flatSubmit { [self] in
            let opened = (0..<clients).map { number in
                let place = share + number * options.threads
                let connection = LoadConnection(worker: self, endpoint: place % addresses.count)
                connections.append(connection)
                return open(connection).map { _ in }
            }
            return EventLoopFuture.andAllSucceed(opened, on: loop)
        }
    }

    /// Requests from now on until the options say so; all workers get the same `start`.
    func run(start: UInt64) -> EventLoopFuture<LoadReport> {
        loop.execute { [self] in begin(start) }
        return finished.futureResult
    }

    private func begin(_ start: UInt64) {
        isRunning = true
        countedFrom = start + UInt64(options.warmupSeconds * 1e9)
        lastAnswer = countedFrom
        if let seconds = options.seconds { end = countedFrom + UInt64(seconds * 1e9) }
        requestsLeft = .max
        if let requests = options.requests {
            requestsLeft = UInt64(LoadWorker.part(requests, share, of: options.threads))
        }
        if let rate = options.rate {
            let seconds = options.seconds ?? Double(options.requests ?? 0) / rate
            schedule = RateSchedule(
                start: start, perSecond: rate, seconds: options.warmupSeconds + seconds,
                share: share, of: options.threads)
        }
        _ = loop.scheduleRepeatedTask(
            initialDelay: LoadWorker.watchInterval, delay: LoadWorker.watchInterval
        ) { [self] task in
            watch()
            if !isRunning { task.cancel() }
        }
        pump()
    }

    // MARK: Requests

    /// Gives idle clients what is due.
    private func pump() {
        guard isRunning else { return }
        while let connection = idle.first {
            let now = monotonicNanoseconds()
            guard let due = nextDue(now) else { break }
            idle.removeFirst()
            inFlight += 1
            let isRead =
                options.readPercent > 0
                && random.next(below: 100) < UInt64(options.readPercent)
            let key = random.next(below: options.keys)
            connection.send(
                connection.request(due: due, at: now, key: key, isRead: isRead, &values))
        }
        if let next = schedule?.next {
            if !idle.isEmpty { wake(at: next) }
        } else if inFlight == 0, !hasMore(monotonicNanoseconds()) {
            finish()
        }
    }

    private func nextDue(_ now: UInt64) -> UInt64? {
        if schedule != nil { return schedule?.take(at: now) }
        guard hasMore(now) else { return nil }
        requestsLeft -= 1
        return now
    }

    private func hasMore(_ now: UInt64) -> Bool {
        if let schedule { return schedule.left > 0 }
        return requestsLeft > 0 && now < end
    }

    private func wake(at due: UInt64) {
        guard !isTimerSet else { return }
        isTimerSet = true
        let now = monotonicNanoseconds()
        loop.scheduleTask(in: .nanoseconds(due > now ? Int64(due - now) : 0)) { [self] in
            isTimerSet = false
            pump()
        }
    }

    func answered(_ connection: LoadConnection, _ outcome: Outcome) {
        let now = monotonicNanoseconds()
        guard isRunning, let due = connection.dueSince else { return }
        connection.becomeIdle()
        inFlight -= 1
        if due >= countedFrom { count(outcome, isRead: connection.isRead, now - due, now) }
        idle.append(connection)
        pump()
    }

    private func count(_ outcome: Outcome, isRead: Bool, _ latency: UInt64, _ now: UInt64) {
        lastAnswer = now
        switch outcome {
        case .failed(let kind): return report.countError(kind)
        case .missing: report.missing += 1
        case .done: break
        }
        if isRead { report.gets.record(latency) } else { report.sets.record(latency) }
    }

    // MARK: Connections

    private func open(_ connection: LoadConnection) -> EventLoopFuture<any Channel> {
        ClientBootstrap(group: loop)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.maxMessagesPerRead, value: 1)
            .connectTimeout(.seconds(5))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(connection)
                }
            }.connect(to: addresses[connection.endpoint])
    }

    func opened(_ connection: LoadConnection) {
        idle.append(connection)
        pump()
    }

    func lost(_ connection: LoadConnection, _ kind: String) {
        guard isRunning else { return }
        idle.removeAll { $0 === connection }
        fail(connection, kind)
        reconnect(connection)
        pump()
    }

    /// The request in flight, if there is one, counts as an error.
    func fail(_ connection: LoadConnection, _ kind: String) {
        guard let due = connection.dueSince else { return }
        connection.becomeIdle()
        inFlight -= 1
        if due >= countedFrom { report.countError(kind) }
    }

    private func reconnect(_ connection: LoadConnection) {
        connection.endpoint = (connection.endpoint + 1) % addresses.count
        report.reconnects += 1
        loop.scheduleTask(in: LoadWorker.reconnectDelay) { [self] in
            guard isRunning else { return }
            open(connection).whenFailure { [self] _ in
                if isRunning { reconnect(connection) }
            }
        }
    }

    /// Closes connections whose request is too old; ends what has waited for the last too long.
    private func watch() {
        guard isRunning else { return }
        let now = monotonicNanoseconds()
        let limit = UInt64(options.timeoutSeconds * 1e9)
        for connection in connections {
            // Not from when it was due: it may have waited for its client.
            if connection.dueSince != nil, now - connection.sentAt > limit {
                fail(connection, "timeout")
                connection.abandon()
            }
        }
        if end != .max, now > end, now - end > limit {
            for connection in connections { fail(connection, "timeout") }
            if let left = schedule?.left, left > 0 { report.countError("never-sent", left) }
            return finish()
        }
        pump()
    }

    private func finish() {
        guard isRunning else { return }
        isRunning = false
        report.seconds = Double(lastAnswer - countedFrom) / 1e9
        for connection in connections { connection.abandon() }
        finished.succeed(report)
    }
}
