// The HTTP surface: health, readiness, metrics, the read-only API. Data comes from an
// `AdminSource`; this file knows paths, status codes and nothing else.
import Engine
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

package final class AdministrationServer: NodeComponent {
    package let name = "http"
    private let host: String
    private let port: Int
    private let source: any AdminSource
    private let eventLoops: any EventLoopGroup
    private let logger: Logger
    private let connectionsMax: Int
    private let idle: TimeAmount
    private let state = Mutex(State())

    private struct State {
        var group: ServiceGroup?
        var task: Task<Void, any Error>?
        var port: Int?
    }

    /// At most `connectionsMax` are served at a time, others wait; one on which nothing moves for
    /// `idle` is closed.
    package init(
        host: String, port: Int, source: any AdminSource, eventLoops: any EventLoopGroup,
        logger: Logger, connectionsMax: Int = 128, idle: TimeAmount = .minutes(1)
    ) {
        self.host = host
        self.port = port
        self.source = source
        self.eventLoops = eventLoops
        self.logger = logger
        self.connectionsMax = connectionsMax
        self.idle = idle
    }

    /// The port in use, once started; of interest when the configured one is 0.
    package var boundPort: Int? { state.withLock { $0.port } }

    package func start() async throws {
        let outcome = FirstResult<Int>()
        let idle = self.idle
        let application = Application(
            router: AdministrationServer.router(source),
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [IdleStateHandler(allTimeout: idle), IdleEnd()])),
            configuration: .init(
                address: .hostname(host, port: port), serverName: "martlet",
                availableConnectionsDelegate: MaximumAvailableConnections(
                    connectionsMax, logger: quietLogger)),
            onServerRunning: { channel in
                outcome.settle(.success(channel.localAddress?.port ?? 0))
            },
            eventLoopGroupProvider: .shared(eventLoops), logger: quietLogger)
        var configuration = ServiceGroupConfiguration(
            services: [.init(service: application)], logger: quietLogger)
        configuration.maximumGracefulShutdownDuration = .seconds(2)
        let group = ServiceGroup(configuration: configuration)
        // Detached: the group must stop when the runtime says so, not with the process's signal.
        let task = Task.detached {
            do {
                try await group.run()
                outcome.settle(.failure(CancellationError()))
            } catch {
                outcome.settle(.failure(error))
                throw error
            }
        }
        do {
            let port = try await outcome.value()
            state.withLock { $0 = State(group: group, task: task, port: port) }
        } catch {
            throw NodeFailure(binding: "listen.http-port", host: host, port: port, error)
        }
    }

    package func stop() async {
        let (group, task) = state.withLock { state in
            defer { state = State() }
            return (state.group, state.task)
        }
        await group?.triggerGracefulShutdown()
        _ = await task?.result
    }

    /// The services inside log every start and stop at info; a node's operator needs none of that.
    private var quietLogger: Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }

    package static func router(_ source: any AdminSource) -> Router<BasicRequestContext> {
        let documents = documents(source)
        // HEAD is answered like GET, without the body.
        let router = Router(options: .autoGenerateHeadEndpoints)
        router.add(middleware: ReadOnlyPaths(paths: Set(documents.map(\.path))))
        for document in documents {
            router.get(RouterPath(document.path)) { request, _ in document.answer(request) }
        }
        return router
    }

    private struct Document: Sendable {
        /// Starts with a slash and does not end with one.
        var path: String
        var answer: @Sendable (Request) -> Response
    }

    private static func documents(_ source: any AdminSource) -> [Document] {
        [
            Document(path: "/healthz") { _ in
                guard let failure = source.failure() else { return text("ok\n") }
                return text("failed: \(failure.message)\n", status: .serviceUnavailable)
            },
            Document(path: "/readyz") { _ in
                switch source.readiness() {
                case .ready: return text("ready\n")
                case .notReady(let reason):
                    return text("not ready: \(reason)\n", status: .serviceUnavailable)
                }
            },
            Document(path: "/metrics") { _ in
                response(
                    PrometheusText.render(source.metrics()), type: PrometheusText.contentType)
            },
            Document(path: "/api/v1/status") { _ in json(AdminJSON.status(source.status())) },
            Document(path: "/api/v1/tables") { _ in json(AdminJSON.tables(source.tables())) },
            Document(path: "/api/v1/ledger") { request in
                guard let limit = limit(of: request) else {
                    return text(
                        "limit: a whole number from 1 to \(AdminJSON.ledgerLimitMax)\n",
                        status: .badRequest)
                }
                return json(AdminJSON.ledger(source.ledger(limit: limit)))
            },
        ]
    }

    private static func limit(of request: Request) -> Int? {
        guard let text = request.uri.queryParameters["limit"] else { return AdminJSON.ledgerLimit }
        guard let limit = Int(text), (1...AdminJSON.ledgerLimitMax).contains(limit) else {
            return nil
        }
        return limit
    }

    private static func json(_ bytes: [UInt8]) -> Response {
        response(bytes + [UInt8(ascii: "\n")], type: "application/json")
    }

    fileprivate static func text(_ text: String, status: HTTPResponse.Status = .ok) -> Response {
        response([UInt8](text.utf8), type: "text/plain; charset=utf-8", status: status)
    }

    private static func response(
        _ bytes: [UInt8], type: String, status: HTTPResponse.Status = .ok
    ) -> Response {
        Response(
            status: status, headers: [.contentType: type, .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}

/// Tells apart what does not exist (404) from what can only be read (405).
private struct ReadOnlyPaths: RouterMiddleware {
    typealias Context = BasicRequestContext
    let paths: Set<String>

    func handle(
        _ request: Request, context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        // Slashes count as the router counts them: repeated and trailing ones are nothing.
        let path = request.uri.path.split(separator: "/").map { "/" + $0 }.joined()
        let isRead = request.method == .get || request.method == .head
        guard paths.contains(path) else {
            let answer = AdministrationServer.text("no such path\n", status: .notFound)
            return request.method == .head ? answer.createHeadResponse() : answer
        }
        guard isRead else {
            var answer = AdministrationServer.text(
                "\(request.method.rawValue) is not for this path; it can only be read\n",
                status: .methodNotAllowed)
            answer.headers[.allow] = "GET, HEAD"
            return answer
        }
        return try await next(request, context)
    }
}

/// Closes a connection on which nothing moves: no whole request came, and no answer was taken.
private final class IdleEnd: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is IdleStateHandler.IdleStateEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        context.close(promise: nil)
    }
}

/// The first of several outcomes; the others are ignored.
private final class FirstResult<Value: Sendable>: Sendable {
    private struct State {
        var result: Result<Value, any Error>?
        var waiter: CheckedContinuation<Value, any Error>?
    }

    private let state = Mutex(State())

    func settle(_ result: Result<Value, any Error>) {
        let waiter = state.withLock { state -> CheckedContinuation<Value, any Error>? in
            guard state.result == nil else { return nil }
            state.result = result
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: result)
    }

    func value() async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let known = state.withLock { state -> Result<Value, any Error>? in
                if state.result == nil { state.waiter = continuation }
                return state.result
            }
            if let known { continuation.resume(with: known) }
        }
    }
}
