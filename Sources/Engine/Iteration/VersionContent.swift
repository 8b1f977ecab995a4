// What a version says to a reader: a live value or nothing. The one place that reads the expiry
// before an expiring put's value.

package struct VersionContent {
    /// The value without the expiry; borrowed from the version.
    package let value: UnsafeRawBufferPointer
    package let expiry: ClockMilliseconds?

    /// Nil for a tombstone, and for a put that has expired at `now`: it hides what is older just as
    /// well. A version that no writer makes is damage.
    @inline(__always)
    package init?(
        _ trailer: Trailer, _ value: UnsafeRawBufferPointer, now: ClockMilliseconds
    ) throws(EngineError) {
        switch trailer.kind {
        case .put:
            self.value = value
            expiry = nil
        case .delete, .singleDelete: return nil
        case .expiringPut:
            let expiry = try VersionContent.expiry(value)
            guard now < expiry else { return nil }
            self.value = UnsafeRawBufferPointer(rebasing: value[8...])
            self.expiry = expiry
        // An operand says nothing alone: who reads folds it (`MergeChain`). Nor does a reference:
        // who reads follows it (`BlobFiles`).
        case .merge, .blobReference, nil: throw VersionContent.malformed
        }
    }

    /// The expiry at the front of an expiring put's value.
    @inline(__always)
    package static func expiry(_ value: UnsafeRawBufferPointer) throws(EngineError)
        -> ClockMilliseconds
    {
        guard value.count >= 8 else { throw malformed }
        return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
    }

    /// When a version of this kind expires; nil if it never does.
    @inline(__always)
    package static func expiry(_ kind: ValueKind, _ value: UnsafeRawBufferPointer)
        throws(EngineError) -> ClockMilliseconds?
    {
        switch kind {
        case .expiringPut: try expiry(value)
        case .blobReference: try BlobReference(stored: value).expiry
        case .put, .delete, .merge, .singleDelete: nil
        }
    }

    package static var malformed: EngineError {
        .corrupt(file: "an entry", reason: "its kind is unknown or its expiry is cut off")
    }
}
