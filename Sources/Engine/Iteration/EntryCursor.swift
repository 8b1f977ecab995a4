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
    /// `next`, and the entry that it comes to; nil at the end. One call where a scan would else
    /// make four for every entry.
    func advance() throws(EngineError) -> CursorEntry?
}

/// An entry that a cursor stands on; borrowed until its next move.
package struct CursorEntry {
    package let key: UnsafeRawBufferPointer
    package let trailer: Trailer
    package let value: UnsafeRawBufferPointer

    @inline(__always)
    package init(
        key: UnsafeRawBufferPointer, trailer: Trailer, value: UnsafeRawBufferPointer
    ) {
        self.key = key
        self.trailer = trailer
        self.value = value
    }
}

extension EntryCursor {
    package func advance() throws(EngineError) -> CursorEntry? {
        try next()
        return current
    }

    /// The entry that the cursor stands on.
    package var current: CursorEntry? {
        isValid ? CursorEntry(key: key, trailer: trailer, value: value) : nil
    }
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

/// As `FoundVersion`, its value where the source has it.
struct BorrowedVersion {
    let trailer: Trailer
    let value: UnsafeRawBufferPointer
}

/// Whether a read may wait for the disk.
public enum ReadIO: Sendable {
    /// Throws `EngineError.wouldBlock` instead of touching a file.
    case cacheOnly
    case blocking
}
