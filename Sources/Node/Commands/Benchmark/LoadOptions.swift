// What a load on a cluster is; every field is a flag of `martlet bench cluster`.

package struct LoadOptions: Sendable, Equatable {
    package struct Endpoint: Sendable, Equatable {
        package var host: String
        package var port: Int

        package init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
    }

    package var endpoints: [Endpoint] = []
    /// Connections, each with one request in flight.
    package var clients = 64
    package var threads = 1
    /// Requests a second, whatever the answers do; nil: each client asks when it was answered.
    package var rate: Double?
    /// How long requests are made; nil if `requests` bounds them.
    package var seconds: Double? = 10
    package var requests: UInt64?
    /// Requests at the start that are not counted.
    package var warmupSeconds = 0.0
    package var keys: UInt64 = 100_000
    package var valueBytes = 100
    /// Of a hundred requests, the GETs.
    package var readPercent = 0
    /// Replicas that `WAIT` waits for after each SET; 0 sends none.
    package var waitReplicas = 0
    package var waitMilliseconds = 1000
    /// A request unanswered for so long counts as an error, and its connection is closed.
    package var timeoutSeconds = 10.0
    package var seed: UInt64 = 301

    package init() {}
}
