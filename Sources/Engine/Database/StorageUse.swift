// What flushes and compactions wrote and what the tables take: write and space amplification.

/// Files as they are on this node: compressed, encrypted, with checksums.
public struct StorageUse: Sendable, Equatable {
    /// Bytes of the tables and blob files that flushes finished since the open.
    public var flushedBytes: UInt64 = 0
    /// As `flushedBytes`, of compactions.
    public var compactedBytes: UInt64 = 0
    /// Sizes of the tables and blob files that reads see. Others may be on disk until the last
    /// reader lets go of them.
    public var liveBytes: UInt64 = 0

    public init() {}
}

extension Store {
    package var storageUse: StorageUse {
        var use = written
        use.liveBytes = installed.local.values.reduce(0) { $0 &+ $1.fileBytes }
        return use
    }
}

extension JobResult {
    var fileBytes: UInt64 { tables.reduce(0) { $0 + $1.local.fileBytes } }
}
