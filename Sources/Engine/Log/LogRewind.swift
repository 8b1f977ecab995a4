// Removing an uncommitted suffix. The order of the steps makes a crash between any two of them
// harmless; recovery finishes what was begun, since it never counts an entry above the recorded cut
// whose epoch is below the recorded one:
//
//   0. what is kept is synced, if it was not
//   1. `state` records (cut, epoch + 1), durably
//   2. later segments are unlinked, newest first, and the directory synced
//   3. the segment that becomes active again loses its footer and whatever stands behind the cut
//   4. appends carry the new epoch

extension Log {
    /// Removes every entry above `cut`. The caller knows that none of them is committed. What is
    /// kept is durable when this returns.
    package func truncate(after cut: LogIndex) throws(EngineError) {
        try checkUsable()
        let (first, last) = lock.withLock { (firstLocked, lastPosition.index) }
        guard cut < last else { return }
        invariant(cut + 1 >= first, "a truncation reaches below the log's start")
        try rewind(after: cut)
    }

    /// As `truncate`, also when nothing above `cut` is known: a failed write may have left
    /// something.
    func rewind(after cut: LogIndex) throws(EngineError) {
        // A record above what is durable would let older frames stand again in place of lost ones.
        if cut > durablePosition.index, !dirty.isEmpty { _ = try sync() }
        let (target, isKnown) = positionForCut(cut)
        epoch += 1
        do throws(EngineError) { try hardState.recordCut(target, epoch: epoch) } catch {
            throw poisoned(error.description)
        }
        writer?.releaseMapping()
        writer = nil
        let dropped = forget(after: target, isKnown: isKnown)
        do throws(EngineError) {
            try unlink(dropped)
            try reopenActive()
        } catch { throw poisoned(error.description) }
        hardState.noteDurable(durablePosition, epoch: epoch)
    }

    private func positionForCut(_ cut: LogIndex) -> (Position, isKnown: Bool) {
        let (last, isLastKnown, hole) = lock.withLock {
            (lastPosition, self.isLastKnown, holeList.hole(containing: cut))
        }
        if cut == last.index { return (last, isLastKnown) }
        if hole == nil, let position = position(at: cut) { return (position, true) }
        let term = lock.withLock { terms.term(at: cut) } ?? .zero
        let checksum = hole?.upper == cut ? hole?.checksum : nil
        return (
            Position(term: term, index: cut, checksum: checksum ?? .zero), checksum != nil
        )
    }

    /// Takes the suffix out of memory and returns the segments that are no more, newest first.
    private func forget(after target: Position, isKnown: Bool) -> [LogSegment] {
        lock.lock()
        defer { lock.unlock() }
        var dropped: [LogSegment] = []
        while let segment = segments.last, segment.first > target.index {
            dropped.append(segment)
            segments.removeLast()
        }
        lastPosition = target
        isLastKnown = isKnown
        nextIndex = target.index + 1
        if durablePosition.index > target.index { durablePosition = target }
        terms.truncate(after: target.index)
        settings.truncate(after: target.index)
        holeList.truncate(after: target.index)
        if isKnown, holeList.hole(containing: target.index) != nil {
            holeList.setChecksum(target.checksum, endingAt: target.index)
        }
        mended = mended.filter { $0.key <= target.index }
        layout += 1
        return dropped
    }

    /// Durable when it returns: a name that came back later would stand for entries again. Without
    /// a descriptor for that the next sync does it: until then nothing behind the cut is promised,
    /// and the cut that is recorded stays the same.
    private func unlink(_ dropped: [LogSegment]) throws(EngineError) {
        guard !dropped.isEmpty else { return }
        dirty.removeAll { segment in dropped.contains { $0 === segment } }
        isDirectoryDirty = true
        do throws(FileError) {
            for segment in dropped { try fileSystem.unlink(segment.path) }
            try fileSystem.syncDirectory(directory)
            isDirectoryDirty = false
        } catch {
            guard error.isOutOfDescriptors else { throw .file(error) }
        }
    }

    /// Makes the last segment the active one, cut to the last entry, unless it ends there by the
    /// rule.
    func reopenActive() throws(EngineError) {
        guard let segment = lock.withLock({ segments.last }) else { return }
        let offsets = try loadedOffsets(segment)
        let count = Int(nextIndexInFile - segment.first)
        let measure = try SegmentMeasure(
            segment, offsets.prefix(count),
            settings: segment.header?.settings ?? settings.before(segment.first))
        if segment.isSealed, isEnd(of: segment, measure), segment.count == count { return }
        lock.withLock {
            segment.offsets = Array(offsets.prefix(count))
            segment.truncate(after: nextIndexInFile - 1, end: measure.end)
        }
        try logIO { () throws(FileError) in
            // Without this a frame from before the cut could stand behind ones of the new epoch,
            // and count again once those are damaged.
            let end = alignedToGroup(measure.end)
            if try segment.file.size() > end { try segment.file.truncate(to: end) }
            writer = try SegmentWriter(segment, options)
        }
        rule = measure.rule
        isRuleKnown = measure.isComplete
        if !dirty.contains(where: { $0 === segment }) { dirty.append(segment) }
    }

    /// Whether the next entry begins another segment. S is the end of one, whatever can be read of
    /// its frames: a segment that has lost some and went on would be no segment to anybody else.
    func isEnd(of segment: LogSegment, _ measure: SegmentMeasure) -> Bool {
        measure.endsHere || segment.last <= base.index
    }

    /// One above the last entry; `nextIndex` differs from it after a skip.
    private var nextIndexInFile: LogIndex { lastPosition.index + 1 }
}
