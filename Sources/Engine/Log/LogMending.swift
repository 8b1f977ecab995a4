// Filling holes by content. Entry k+1 names entry k by checksum, so a lost entry may come from any
// peer, before and without a leader; a run of them is fetched backwards. Mended entries wait in
// memory, readable, until their segment is whole; then the segment is written anew beside the old
// file and takes its name.

extension Log {
    /// Takes an entry of a hole (`holes`): the one at a hole's `upper` if its checksum is known,
    /// else the one at `lower`. Refuses any other content with `.invalid`. After a lack of space
    /// the entry is readable, and the same call once more writes its segment.
    package func mend(_ entry: Entry) throws(EngineError) {
        try checkUsable()
        let (missing, waiting) = lock.withLock {
            (holeList.hole(containing: entry.index), mended[entry.index])
        }
        guard let hole = missing else {
            guard waiting?.header.checksum == entry.header.checksum else {
                throw .invalid(reason: "entry \(entry.index) is not missing")
            }
            return try rewriteIfWhole(at: entry.index)
        }
        try check(entry, fits: hole)
        let value = entry.header.kind == .settings ? try Log.settings(in: entry) : nil
        lock.withLock {
            mended[entry.index] = entry
            if hole.checksum != nil {
                holeList.fillUpper(entry.index, previous: entry.header.previous)
            } else {
                holeList.fillLower(entry.index)
            }
            terms.place(entry.term, at: entry.index)
            if let value { settings.insert(value, at: entry.index) }
            if entry.index == lastPosition.index {
                lastPosition = entry.position
                isLastKnown = true
            }
        }
        try rewriteIfWhole(at: entry.index)
    }

    private func rewriteIfWhole(at index: LogIndex) throws(EngineError) {
        let segment = lock.withLock { segments[segmentNumber(holding: index)] }
        guard !lock.withLock({ holeList.intersects(segment.first, segment.last) }) else { return }
        try rewrite(segment)
    }

    private func check(_ entry: Entry, fits hole: LogHole) throws(EngineError) {
        let before = entry.index == hole.lower ? position(at: entry.index - 1) : nil
        if let checksum = hole.checksum {
            guard entry.index == hole.upper, entry.header.checksum == checksum else {
                throw .invalid(
                    reason: "entry \(entry.index) is not the one missing at \(hole.upper)")
            }
            // Both sides verify and yet do not fit together: nobody may decide that automatically.
            if let before, before.checksum != entry.header.previous {
                throw corrupt(at: before.index, "entry \(before.index) is of another history")
            }
            return
        }
        guard let before, before.checksum == entry.header.previous else {
            throw .invalid(reason: "entry \(entry.index) does not continue the hash chain")
        }
        let last = lock.withLock { lastPosition }
        if entry.index == last.index, last.term != .zero, entry.term != last.term {
            throw .invalid(reason: "entry \(entry.index) is not of term \(last.term)")
        }
    }

    // MARK: Writing a segment anew

    /// Replaces a segment's file by one that holds all of its entries. Recovery may have had to
    /// count entries of several segments as one; the rule cuts them apart again.
    private func rewrite(_ segment: LogSegment) throws(EngineError) {
        let isActive = !segment.isSealed
        if isActive { writer?.releaseMapping() }
        let rebuild = SegmentRebuild(
            self, segment,
            settings: segment.header?.settings ?? settings.before(segment.first))
        let damaged: SegmentRebuild.Damage?
        do throws(EngineError) {
            damaged = try rebuild.run(try loadedOffsets(segment), mended)
        } catch {
            rebuild.discard()
            throw error
        }
        if let damaged {
            rebuild.discard()
            // Nobody had read it yet: this entry waits in memory until that hole is filled too.
            noteDamaged(damaged)
            return
        }
        do throws(FileError) { try rebuild.takeNames() } catch {
            throw poisoned(error.description)
        }
        adopt(rebuild.pieces, insteadOf: segment)
        if isActive { try continueIn(rebuild) }
    }

    /// At open: an encrypted active segment, or one that is to be, gets a new file, hence a key of
    /// its own, of the present key epoch. A copy of the directory (a backup that is put back, a
    /// clone, one whose hard state was lost) goes on in the same log epoch as its original did:
    /// under the same key it would use the same nonces. Sealed segments are kept as they are until
    /// they are trimmed. Without space for a second file the old one is used on; one with holes
    /// gets its new file when they are mended.
    func renewActive(_ report: inout LogRecovery) throws(EngineError) {
        guard let segment = lock.withLock({ segments.last }), !segment.isSealed,
            segment.cipher != nil || options.keys.currentEpoch > 0,
            !lock.withLock({ holeList.intersects(segment.first, segment.last) })
        else { return }
        do throws(EngineError) {
            guard segment.count == 0 else { return try rewrite(segment) }
            try dropEmpty(segment)
        } catch {
            guard error.isNoSpace else { throw error }
            let how = segment.cipher.map { "under its key of epoch \($0.header.epoch)" }
            report.note(
                segment.path,
                FileDamage(
                    "no space to write it anew under a new key: entries go on "
                        + (how ?? "in plain") + " until it is full, or the next open"))
        }
    }

    /// The next append makes the file anew.
    private func dropEmpty(_ segment: LogSegment) throws(EngineError) {
        writer = nil
        dirty.removeAll { $0 === segment }
        lock.withLock {
            segments.removeAll { $0 === segment }
            layout += 1
        }
        try logIO { () throws(FileError) in try fileSystem.unlink(segment.path) }
        isDirectoryDirty = true
    }

    private func adopt(_ pieces: [LogSegment], insteadOf segment: LogSegment) {
        dirty.removeAll { $0 === segment }
        lock.withLock {
            guard let place = segments.firstIndex(where: { $0 === segment }) else {
                brokenInvariant("a rewritten segment is not in the log")
            }
            segments.replaceSubrange(place...place, with: pieces)
            mended = mended.filter { $0.key < segment.first || $0.key > segment.last }
            layout += 1
        }
    }

    func noteDamaged(_ damage: SegmentRebuild.Damage) {
        lock.withLock {
            holeList.insert(
                LogHole(lower: damage.index, upper: damage.index, checksum: damage.checksum))
        }
    }

    func continueIn(_ rebuild: SegmentRebuild) throws(EngineError) {
        writer = nil
        isRuleKnown = true
        guard let last = rebuild.pieces.last, !last.isSealed else { return }
        rule = rebuild.rule
        writer = try logIO { () throws(FileError) in try SegmentWriter(last, options) }
    }
}

extension TermRuns {
    /// Counts in an entry that was missing between others.
    mutating func place(_ term: Term, at index: LogIndex) {
        guard self.term(at: index) != term else { return }
        var all = runs
        if let same = all.firstIndex(where: { $0.term == term && $0.first > index }) {
            all[same].first = index
        } else {
            let place = all.firstIndex { $0.first > index } ?? all.count
            all.insert(TermRun(term: term, first: index), at: place)
        }
        self = TermRuns()
        append(all)
    }
}
