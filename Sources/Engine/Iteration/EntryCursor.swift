// A position in one sorted source of versions: a memtable, a table, a level, a merge of them.
// Order: user key ascending, then trailer (sequence) descending. Range tombstones are not part of
// the sequence; each source hands them over beside it.

package protocol EntryCursor: AnyObject {
    var isValid: Bool { get }
    /// User key; borrowed until the next move. Only while valid.
    var key: UnsafeRawBufferPointer { get }
    var trailer: Trailer { get }
    /// Value; borrowed until the next move. Only while valid.
    var value: UnsafeRawBufferPointer { get }

    func seekToFirst() throws(EngineError)
    func seekToLast() throws(EngineError)
    /// First version at or after (key, trailer): of `key`, the newest with a trailer at or below
    /// `trailer`; else the first version of a larger key.
    func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError)
    /// Last version before every version of `key`.
    func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError)
    func next() throws(EngineError)
    func previous() throws(EngineError)
}

/// The newest version of a key that a source holds at or below a sequence, its value copied.
package struct FoundVersion {
    package var trailer: Trailer
    package var value: [UInt8]

    package init(trailer: Trailer, value: [UInt8]) {
        self.trailer = trailer
        self.value = value
    }
}

/// Whether a read may wait for the disk.
public enum ReadIO: Sendable {
    /// Throws `EngineError.wouldBlock` instead of touching a file.
    case cacheOnly
    case blocking
}
