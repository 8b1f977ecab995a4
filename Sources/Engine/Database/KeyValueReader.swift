// What everything above the engine reads through: the node's commands, the peer that answers for a
// damaged replica, the embedded API.

/// A live value as a client sees it.
public struct LiveValue: Sendable, Equatable {
    public var value: [UInt8]
    /// Absolute milliseconds; nil if it never expires.
    public var expiry: ClockMilliseconds?

    public init(value: [UInt8], expiry: ClockMilliseconds? = nil) {
        self.value = value
        self.expiry = expiry
    }
}

public protocol KeyValueReader: AnyObject, Sendable {
    /// The newest applied value of `key`, nil if there is none or it has expired at `now`.
    /// Damage is an error, never nil.
    func get(_ key: [UInt8], now: ClockMilliseconds, io: ReadIO) throws(EngineError) -> LiveValue?

    /// Up to `limit` live pairs of `span`, in key order or in reverse; `limitBytes` also ends it.
    func scan(
        _ span: KeySpan, reverse: Bool, limit: Int, limitBytes: Int, now: ClockMilliseconds
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)]

    /// The same state for every read through what is returned, whatever is applied meanwhile. It
    /// keeps memtables and files alive: let it go soon.
    func pinned() -> any KeyValueReader
}
