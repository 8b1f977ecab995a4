// The live pairs of a span as a reader at one sequence sees them, forward and in reverse: of each
// key the newest visible version, unless it is a tombstone, has expired, or a range tombstone of
// any source hides it.
//
// Keys and values are borrowed until the next move. Forward, the cursor stands on the version that
// is shown; in reverse it already stands before all versions of the key, which are copied into
// buffers that are used again and again. Operands are folded by a point read of their key: the
// cursor's place does not depend on it. After a throw the iterator is invalid until it is sought.
// It pins its view. One thread at a time.

package final class VisibleIterator {
    private let view: ReadView
    private let span: KeySpan
    /// Start and end of the span, one behind the other, where the cursors find them, too.
    private let edges: UnsafeMutableRawBufferPointer
    /// The end of the span, if it has one: every pair is held against it.
    private let end: UnsafeRawBufferPointer?
    private let sequence: SequenceNumber
    private let now: ClockMilliseconds
    private let cursor: any EntryCursor
    @exclusivity(unchecked) private var cover: RangeCover

    // Private with package getters: the compiler then proves that accesses do not overlap, instead
    // of checking it at run time for every pair.
    private var valid = false
    private var isReversed = false
    /// The key that is shown, or the last one that was passed.
    @exclusivity(unchecked) private var currentKey = ScratchBytes()
    /// Its value with the expiry, in reverse.
    @exclusivity(unchecked) private var currentValue = ScratchBytes()
    private var shownValue = UnsafeRawBufferPointer(start: nil, count: 0)
    /// A folded value, or one from a blob file.
    @exclusivity(unchecked) private var madeValue = ScratchBytes()
    private let io: ReadIO
    private var shownExpiry: ClockMilliseconds?
    private var shownSequence = SequenceNumber.zero

    /// Moves past so many versions of a key one by one before seeking.
    private static let stepsBeforeSeek = 8
    /// Sorts behind every version of its key.
    private static let behindAllVersions = Trailer(rawValue: 0)
    private static let beforeAllVersions = Trailer(rawValue: .max)

    package init(
        _ view: ReadView, span: KeySpan, at sequence: SequenceNumber, now: ClockMilliseconds,
        io: ReadIO
    ) {
        self.view = view
        self.span = span
        self.sequence = sequence
        self.now = max(now, view.clock)
        self.io = io
        let startBytes = span.start.count
        let edges = UnsafeMutableRawBufferPointer.allocate(
            byteCount: startBytes + (span.end?.count ?? 0), alignment: 8)
        edges.copyBytes(from: span.start)
        let end = span.end.map { end in
            let place = UnsafeMutableRawBufferPointer(rebasing: edges[startBytes...])
            place.copyBytes(from: end)
            return UnsafeRawBufferPointer(place)
        }
        let start = UnsafeRawBufferPointer(rebasing: edges[..<startBytes])
        self.edges = edges
        self.end = end
        cursor = view.makeCursor(
            span, ScanScope(visible: sequence, start: start, end: end), io: io)
        cover = RangeCover(view, span: span, at: sequence, io: io)
    }

    deinit { edges.deallocate() }

    package var isValid: Bool { valid }
    /// User key; only while valid.
    package var key: UnsafeRawBufferPointer { currentKey.bytes }
    /// Value without expiry; only while valid.
    package var value: UnsafeRawBufferPointer { shownValue }
    /// Absolute milliseconds; nil if it never expires.
    package var expiry: ClockMilliseconds? { shownExpiry }
    /// Sequence of the version that is shown.
    package var versionSequence: SequenceNumber { shownSequence }

    package func seekToFirst() throws(EngineError) {
        valid = false
        isReversed = false
        try withKey(span.start) { (start) throws(EngineError) in
            try cursor.seek(start, VisibleIterator.beforeAllVersions)
        }
        try settleForward(cursor.current, passingCurrentKey: false)
    }

    package func seekToLast() throws(EngineError) {
        valid = false
        isReversed = true
        if let end = span.end {
            try withKey(end) { (end) throws(EngineError) in try cursor.seekBefore(end) }
        } else {
            try cursor.seekToLast()
        }
        try settleReverse()
    }

    /// The first live key at or after `key`.
    package func seek(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        guard span.start.compare(with: key) < 0 else { return try seekToFirst() }
        valid = false
        isReversed = false
        try cursor.seek(key, VisibleIterator.beforeAllVersions)
        try settleForward(cursor.current, passingCurrentKey: false)
    }

    /// The last live key at or before `key`.
    package func seekForPrevious(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        if let end = span.end, end.compare(with: key) <= 0 { return try seekToLast() }
        valid = false
        isReversed = true
        // The next possible key is the same with a zero behind it.
        try withKey([UInt8](key) + [0]) { (end) throws(EngineError) in
            try cursor.seekBefore(end)
        }
        try settleReverse()
    }

    package func next() throws(EngineError) {
        invariant(valid, "an iterator moves from a pair")
        valid = false
        if isReversed {
            isReversed = false
            try cursor.seek(currentKey.bytes, VisibleIterator.behindAllVersions)
            try settleForward(cursor.current, passingCurrentKey: false)
        } else {
            try settleForward(try cursor.advance(), passingCurrentKey: true)
        }
    }

    package func previous() throws(EngineError) {
        invariant(valid, "an iterator moves from a pair")
        valid = false
        if !isReversed {
            isReversed = true
            try cursor.seekBefore(currentKey.bytes)
        }
        try settleReverse()
    }

    /// Stops on the first live pair at or behind `first`, the cursor's entry. `passingCurrentKey`:
    /// older versions of the current key come first and are not for us.
    @inline(__always)
    private func settleForward(_ first: CursorEntry?, passingCurrentKey: Bool) throws(EngineError) {
        var passing = passingCurrentKey
        var steps = 0
        var place = first
        while let entry = place {
            if passing, areEqual(entry.key, currentKey.bytes) {
                place = try pass(&steps, to: VisibleIterator.behindAllVersions)
                continue
            }
            if let end, compareKeys(end, entry.key) <= 0 { return }
            if entry.trailer.sequence > sequence {
                passing = false
                if steps == VisibleIterator.stepsBeforeSeek { currentKey.assign(entry.key) }
                place = try pass(&steps, to: .seek(sequence))
                continue
            }
            currentKey.assign(entry.key)
            if try show(entry.trailer, entry.value) { return }
            passing = true
            steps = 0
            place = try cursor.advance()
        }
    }

    /// Moves on by one version; after some, at once to `trailer` of the current key.
    @inline(never)
    private func pass(_ steps: inout Int, to trailer: Trailer) throws(EngineError) -> CursorEntry? {
        if steps < VisibleIterator.stepsBeforeSeek {
            steps += 1
            return try cursor.advance()
        }
        steps = 0
        try cursor.seek(currentKey.bytes, trailer)
        return cursor.current
    }

    /// Stops on the last live pair at or before the cursor's entry, which is the oldest version of
    /// its key.
    private func settleReverse() throws(EngineError) {
        while cursor.isValid {
            guard span.start.compare(with: cursor.key) <= 0 else { return }
            currentKey.assign(cursor.key)
            guard let trailer = try takeNewestVisible() else { continue }
            if try show(trailer, currentValue.bytes) { return }
        }
    }

    /// Copies the newest visible version of the current key and leaves the cursor before all of its
    /// versions. They come oldest first; with many, seeking is cheaper than walking.
    private func takeNewestVisible() throws(EngineError) -> Trailer? {
        var newest: Trailer?
        var steps = 0
        repeat {
            if cursor.trailer.sequence <= sequence {
                newest = cursor.trailer
                currentValue.assign(cursor.value)
            }
            if steps == VisibleIterator.stepsBeforeSeek {
                try cursor.seek(currentKey.bytes, .seek(sequence))
                if cursor.isValid, compareKeys(cursor.key, currentKey.bytes) == 0 {
                    newest = cursor.trailer
                    currentValue.assign(cursor.value)
                }
                try cursor.seekBefore(currentKey.bytes)
                return newest
            }
            steps += 1
            try cursor.previous()
        } while cursor.isValid && compareKeys(cursor.key, currentKey.bytes) == 0
        return newest
    }

    /// Shows the version of the current key, if it is live; else all older ones are hidden with it.
    private func show(_ trailer: Trailer, _ bytes: UnsafeRawBufferPointer) throws(EngineError)
        -> Bool
    {
        if trailer.kind == .merge { return try showMerged(trailer) }
        if trailer.kind == .blobReference { return try showSeparated(trailer, bytes) }
        guard let content = try VersionContent(trailer, bytes, now: now) else { return false }
        if !cover.isEmpty, try cover.hides(currentKey.bytes, trailer.sequence) { return false }
        shownValue = content.value
        shownExpiry = content.expiry
        shownSequence = trailer.sequence
        valid = true
        return true
    }

    /// Shows what the operands of the current key make, unless a range tombstone hides them all.
    @inline(never)
    private func showMerged(_ trailer: Trailer) throws(EngineError) -> Bool {
        if !cover.isEmpty, try cover.hides(currentKey.bytes, trailer.sequence) { return false }
        let value = try view.mergedValue(currentKey.bytes, at: sequence, now: now, io: io)
        value.withUnsafeBytes { keep($0) }
        shownExpiry = nil
        shownSequence = trailer.sequence
        valid = true
        return true
    }

    /// Shows the value that a reference leads to, unless it has expired or a range tombstone hides
    /// it.
    @inline(never)
    private func showSeparated(_ trailer: Trailer, _ bytes: UnsafeRawBufferPointer)
        throws(EngineError) -> Bool
    {
        let reference = try BlobReference(stored: bytes)
        if let expiry = reference.expiry, expiry <= now { return false }
        if !cover.isEmpty, try cover.hides(currentKey.bytes, trailer.sequence) { return false }
        let head = Int(reference.length) - reference.valueBytes
        try view.blobs.withStored(reference, io: io) { stored in
            keep(UnsafeRawBufferPointer(rebasing: stored[head...]))
        }
        shownExpiry = reference.expiry
        shownSequence = trailer.sequence
        valid = true
        return true
    }

    /// Shows a copy of `value`.
    private func keep(_ value: UnsafeRawBufferPointer) {
        madeValue.assign(value)
        shownValue = madeValue.bytes
    }
}
