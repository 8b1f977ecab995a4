// Dropping old segments and keeping a file ready for the next one. Syncing into a file whose blocks
// were written before takes two thirds of the time, so the oldest trimmed segment becomes the spare
// file of the next; without one, a background thread fills one with zeros.

extension Log {
    private static let fillBytes = 256 << 10

    var sparePath: String { directory + "/spare" }
    private var spareDraftPath: String { directory + "/spare.new" }

    /// The last entry of the oldest segments that have to go so that the others hold at most
    /// `bytes` of files; zero if all may stay.
    package func excess(over bytes: UInt64) -> LogIndex {
        let all = lock.withLock { segments.map { (last: $0.last, file: $0.file) } }
        var kept: UInt64 = 0
        for segment in all.reversed() {
            kept += (try? segment.file.size()) ?? 0
            if kept > bytes { return segment.last }
        }
        return .zero
    }

    /// Drops whole sealed segments whose entries are all at or below `index`, oldest first.
    /// Appender's thread. Names that a crash brings back are dropped again at the next open.
    package func trim(through index: LogIndex) throws(EngineError) {
        while let segment = lock.withLock({ takeOldest(through: index) }) {
            dirty.removeAll { $0 === segment }
            let size = (try? segment.file.size()) ?? 0
            let wants = settings.before(nextIndex).segmentBytes / 2
            try logIO { () throws(FileError) in
                if size >= wants, isFitToReuse(segment.header), beginSpare() {
                    try recycle(segment)
                } else {
                    try fileSystem.unlink(segment.path)
                }
            }
        }
    }

    /// True if there is no spare file and nobody makes one; then the caller does, and it alone.
    private func beginSpare() -> Bool {
        lock.withLock {
            guard spare == .none else { return false }
            spare = .preparing
            return true
        }
    }

    private func recycle(_ segment: LogSegment) throws(FileError) {
        do throws(FileError) {
            try fileSystem.rename(segment.path, to: sparePath)
        } catch {
            lock.withLock { spare = .none }
            throw error
        }
        lock.withLock { spare = .ready }
    }

    /// Plain entries must not stay for long in a file that is to be encrypted.
    private func isFitToReuse(_ header: SegmentHeader?) -> Bool {
        options.keys.currentEpoch == 0 || header?.key != nil
    }

    /// At open: the spare file that an earlier run left. It holds nothing that is needed, so one
    /// that does not read well goes.
    func takeSpare() throws(EngineError) -> SpareState {
        if isSpareFit() { return .ready }
        try logIO { () throws(FileError) in try fileSystem.unlink(sparePath) }
        return .none
    }

    private func isSpareFit() -> Bool {
        do throws(FileError) {
            let bytes = try fileSystem.open(sparePath, .read)
                .readBytes(at: 0, count: SegmentHeader.size)
            let header = bytes.withUnsafeBytes { try? SegmentHeader(decoding: $0) }
            // Without a header it was filled with zeros, or was an old segment that is damaged.
            return isFitToReuse(header) || header == nil && bytes.allSatisfy { $0 == 0 }
        } catch {
            return false
        }
    }

    private func takeOldest(through index: LogIndex) -> LogSegment? {
        guard let segment = segments.first, segment.isSealed, segment.last <= index,
            segments.count > 1 || nextIndex == segment.next
        else { return nil }
        segments.removeFirst()
        layout += 1
        let first = firstLocked
        terms.trim(before: first)
        holeList.trim(before: first)
        if !mended.isEmpty { mended = mended.filter { $0.key >= first } }
        settings.trim(through: segment.last)
        return segment
    }

    /// True once half of the active segment is used and no spare file waits.
    package var wantsPreparation: Bool {
        lock.withLock {
            guard spare == .none, let active = segments.last, !active.isSealed else { return false }
            return active.end >= settings.before(active.first).segmentBytes / 2
        }
    }

    /// Makes a spare file, filled with zeros and synced. For a background thread, while the
    /// appender goes on; returns at once if there is one.
    package func prepareNext() throws(EngineError) {
        guard beginSpare() else { return }
        let size: UInt64 = lock.withLock {
            // Frames and headers come on top of the payload.
            let payload = settings.before(nextIndex).segmentBytes
            return payload + payload / 8
        }
        do throws(EngineError) {
            try logIO { () throws(FileError) in try fillSpare(size) }
            lock.withLock { spare = .ready }
        } catch {
            lock.withLock { spare = .none }
            throw error
        }
    }

    private func fillSpare(_ size: UInt64) throws(FileError) {
        if fileSystem.exists(spareDraftPath) { try fileSystem.unlink(spareDraftPath) }
        let file = try fileSystem.open(spareDraftPath, .create)
        let zeros = [UInt8](repeating: 0, count: min(Log.fillBytes, Int(size)))
        var offset: UInt64 = 0
        while offset < size {
            try file.writeAll(zeros, at: offset)
            offset += UInt64(zeros.count)
        }
        try file.sync()
        try fileSystem.rename(spareDraftPath, to: sparePath)
    }
}
