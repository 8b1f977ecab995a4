// Upper bounds of everything that has a length. Decoders compare with these before allocating.

public enum Limits {
    /// Longest user key, bytes.
    public static let keyBytes = 64 << 10
    /// Longest value by default, bytes; a setting raises it up to `valueBytesMax`.
    public static let valueBytes = 8 << 20
    public static let valueBytesMax = 512 << 20
    /// Payload that a leader gathers into one entry, bytes. A larger write travels alone.
    public static let groupBytes = 1 << 20
    /// Largest payload of an entry: one value of the largest size with its key and framing.
    public static let entryPayloadBytes = valueBytesMax + keyBytes + 4096
    /// Largest canonical block: one entry of the largest size, alone.
    public static let blockBytes = entryPayloadBytes + 4096
    /// Of a table or a blob file, so that sums over many cannot overflow.
    package static let tableBytes: UInt64 = 1 << 46
    /// Members of a cluster.
    public static let members = 64
    /// Tables that one job may read or write.
    public static let jobTables = 65_536
    /// Parts that one job may be split into.
    package static let jobParts = 16
    /// Blob files that one flush or job may write.
    package static let workBlobs = 4_096
    /// Blob files that a table names before it ends at the next key.
    package static let tableBlobs = 8_192
    /// Blob counters of all the tables of a flush or a job before it moves what values come.
    package static let workBlobUses = 131_072
}
