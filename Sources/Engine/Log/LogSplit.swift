// Ending a segment that cannot tell its own end. A log that has lost how long some entries are
// cannot count payload bytes any more, so it goes on in the same file; once those entries are in
// tables everywhere, nobody may have them to give back. But every S is the end of a segment to all.

extension Log {
    /// Ends the active segment at `end` if this log could not tell where it ends. What is behind
    /// goes to files of its own, cut by the rule. The old file keeps its holes and goes with the
    /// next `trim` through `end`, which is the last entry of a segment that was flushed.
    ///
    /// Does nothing in any other state, while an entry behind `end` is missing, or without space
    /// for the copies: it may be called at every new S. Appender's thread.
    package func split(after end: Position) throws(EngineError) {
        try checkUsable()
        guard !isRuleKnown, let segment = lock.withLock({ segments.last }),
            segment.first <= end.index, end.index <= segment.last,
            !lock.withLock({ holeList.intersects(end.index + 1, lastPosition.index) })
        else { return }
        if let own = position(at: end.index), own.checksum != end.checksum {
            throw corrupt(at: end.index, "entry \(end.index) is not the one that is in tables")
        }
        writer?.releaseMapping()
        let rebuild = SegmentRebuild(
            self, segment, keeping: end, settings: settings.before(end.index + 1))
        guard try write(rebuild, segment) else { return }
        do throws(FileError) { try rebuild.takeNames() } catch {
            throw poisoned(error.description)
        }
        try close(segment, at: end)
        lock.withLock {
            segments += rebuild.pieces
            layout += 1
        }
        try continueIn(rebuild)
    }

    /// False if it has to wait: for space or descriptors, or for a peer that supplies what proved
    /// unreadable.
    private func write(_ rebuild: SegmentRebuild, _ segment: LogSegment) throws(EngineError) -> Bool
    {
        do throws(EngineError) {
            guard let damaged = try rebuild.run(try loadedOffsets(segment), mended) else {
                return true
            }
            rebuild.discard()
            noteDamaged(damaged)
            return false
        } catch {
            rebuild.discard()
            guard error.isShortage else { throw error }
            return false
        }
    }

    /// Takes what has files of its own now out of the segment. A crash before all of this is on
    /// disk is harmless: recovery reads a file up to where the next one begins.
    private func close(_ segment: LogSegment, at end: Position) throws(EngineError) {
        let kept = Array(try loadedOffsets(segment).prefix(Int(end.index + 1 - segment.first)))
        let measure = try SegmentMeasure(
            segment, kept,
            settings: segment.header?.settings ?? settings.before(segment.first))
        lock.withLock {
            segment.truncate(after: end.index, end: measure.end)
            segment.isSealed = true
        }
        do throws(FileError) {
            try writeFooter(segment, last: end, next: end.index + 1)
        } catch {
            guard error.isNoSpace else { throw poisoned(error.description) }
        }
        if !dirty.contains(where: { $0 === segment }) { dirty.append(segment) }
    }
}
