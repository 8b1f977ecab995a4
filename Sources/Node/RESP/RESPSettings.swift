// Bounds of the client edge. Each has a name that the errors use and a default that a node's
// configuration may replace; nothing that a client sends makes memory grow past them.
import Engine

package struct RESPSettings: Sendable {
    /// Longest value, bytes; at most `Limits.valueBytesMax`.
    package var valueBytes = Limits.valueBytes
    /// Clients that may be connected at a time.
    package var clientsMax = 10_000
    /// Commands of one connection that are read ahead of the one in execution.
    package var pipelineCommands = 16_384
    /// Bytes of such commands; reading pauses above it.
    package var pipelineBytes = 16 << 20
    /// Commands and bytes of one connection that are executed together.
    package var batchCommands = 8192
    package var batchBytes = 1 << 20
    /// Memory of unexecuted input over all clients; above it clients that hold more than their
    /// share of it are closed.
    package var inputBytes = 512 << 20
    /// Less than this much of a client's input is never a reason to close it.
    package static let inputShareBytesMin = 64 << 10
    /// Replies that a client has not taken, bytes, at which its execution pauses; if then nothing
    /// is taken for `outputStallMilliseconds` it is closed.
    package var outputPauseBytes = 1 << 20
    package var outputStallMilliseconds: Int64 = 60_000
    /// Largest reply, and most replies of one message between members; one value more may fit.
    package var outputBytes = 64 << 20
    /// Replies that no client has taken. At this many nothing that may have a large reply is
    /// executed, and a client that holds more than its share and has taken nothing for
    /// `outputGraceMilliseconds` is closed.
    package var outputTotalBytes = 256 << 20
    package var outputGraceMilliseconds: Int64 = 500
    /// How long a command waits for a leader before it is refused.
    package var retryMilliseconds: Int64 = 3000
    /// Age of the data that a READONLY connection accepts, milliseconds.
    package var stalenessMilliseconds: UInt64 = 5000
    /// Largest reply of MT.RANGE, bytes of keys and values; at least one pair is always sent.
    package var rangeBytes = 16 << 20
    /// Bytes of effects that the evaluator keeps in flight before it waits.
    package var effectBytesInFlight = 256 << 20
    /// Range deletes that it keeps in flight: each read while they are has to look at them.
    package var rangesInFlight = 256

    package init() {}

    /// Longest command, all arguments together, bytes: what fits into one entry of the log.
    package var commandBytes: Int {
        min(max(64 << 20, valueBytes + Limits.keyBytes + 4096), Limits.entryPayloadBytes)
    }
    /// Most arguments of a command, as in Redis.
    package static let argumentsMax = 1 << 20
    /// Longest inline command or length line, bytes, as in Redis.
    package static let lineBytes = 64 << 10
    /// Longest bulk string that is read over instead of ending the connection, as in Redis.
    package static let bulkBytesMax = Limits.valueBytesMax
}
