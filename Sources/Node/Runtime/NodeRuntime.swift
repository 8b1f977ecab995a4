// Runs the parts of a node: starts them in order, waits for SIGTERM, SIGINT or a fatal report,
// stops them in reverse. If a start fails, what was started before it is stopped again, and that
// failure is reported like any other. Stopping is bounded by the process
// (`ProcessExit.limitStop`), whatever it stops for: all that was acknowledged is durable anyway.
// SIGHUP has the parts read their files again.
import Logging
import ServiceLifecycle
import UnixSignals

package final class NodeRuntime: Service {
    private let components: [any NodeComponent]
    private let fatal: FatalReport
    private let logger: Logger
    private let onReady: @Sendable () -> Void
    private let onStopping: @Sendable () -> Void

    /// `onReady` is called once, when every component serves; `onStopping` when a stop begins.
    package init(
        components: [any NodeComponent], fatal: FatalReport, logger: Logger,
        onReady: @escaping @Sendable () -> Void = {},
        onStopping: @escaping @Sendable () -> Void = {}
    ) {
        self.components = components
        self.fatal = fatal
        self.logger = logger
        self.onReady = onReady
        self.onStopping = onStopping
    }

    /// The body of the service: returns after an orderly stop, throws what ended it otherwise.
    package func run() async throws {
        try await withTaskCancellationOrGracefulShutdownHandler {
            try await runComponents()
        } onCancelOrGracefulShutdown: { [fatal, onStopping] in
            onStopping()
            fatal.close()
        }
    }

    private func runComponents() async throws {
        var started: [any NodeComponent] = []
        for component in components where !fatal.isClosed {
            do {
                try await component.start()
            } catch {
                let failure = NodeFailure(classifying: error)
                fatal.report(failure)
                await stop(started)
                throw failure
            }
            started.append(component)
            logger.debug("started", metadata: ["component": "\(component.name)"])
        }
        if !fatal.isClosed { onReady() }
        if let failure = await fatal.wait() { logger.critical("\(failure.message)") }
        await stop(started)
        if let failure = fatal.failure { throw failure }
    }

    private func stop(_ started: [any NodeComponent]) async {
        for component in started.reversed() {
            await component.stop()
            logger.debug("stopped", metadata: ["component": "\(component.name)"])
        }
    }

    private func reload() async {
        for component in components where !fatal.isClosed { await component.reload() }
    }

    /// Runs the node as a process: until SIGTERM, SIGINT, `stop` or a failure (`NodeFailure`).
    package func runProcess(stop: StopRequest) async throws {
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    // First, so that it stops last: a slow reload must not hold up the stop.
                    .init(
                        service: ReloadService(reload: reload),
                        successTerminationBehavior: .ignore),
                    .init(
                        service: self, successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .cancelGroup),
                ], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        stop.setHandler { Task.detached { await group.triggerGracefulShutdown() } }
        do {
            try await group.run()
        } catch {
            throw NodeFailure(classifying: error)
        }
    }
}

/// Reloads with each SIGHUP until the node stops.
private struct ReloadService: Service {
    let reload: @Sendable () async -> Void

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            await reload()
        }
    }
}
