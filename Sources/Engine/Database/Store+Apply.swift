// Applying committed entries. Total: entries were validated before they were acknowledged.

extension Store {
    /// Whether there is room for the next entry; if not, flushes and installs must come first.
    /// Stand-ins take no memory, and only later entries (their seals) reduce them: they refuse new
    /// writes, never the application of what is committed.
    package var canApply: Bool { !areMemtablesFull }

    /// Why a new write is refused now; nil if it is welcome.
    package var writeRefusal: String? {
        if areMemtablesFull { return "\(frozen.count) memtables wait for their flush" }
        if installed.standIns.count >= options.standInsMax {
            return "\(installed.standIns.count) flushed tables wait for their seal"
        }
        if boundsLevel0, level0Count >= options.level0StopTables {
            return "level 0 holds \(level0Count) tables; compaction is behind"
        }
        return nil
    }

    /// Level 0 gets smaller by compaction, which writes may wait for.
    var boundsLevel0: Bool { options.compaction.boundsLevel0 }

    /// Applies the next entry and makes its effects visible.
    package func apply(_ entry: Entry) {
        invariant(
            entry.index == appliedTail.position.index + 1
                && entry.header.previous == appliedTail.position.checksum,
            "entry \(entry.index) does not follow what is applied")
        switch entry.header.kind {
        case .write: applyWrite(entry)
        case .bulk: applyBulk(entry)
        default: applyControl(entry)
        }
        let tail = LogPoint(after: entry)
        let isLast = active.rule.endsSegment(entry.header)
        if isLast { freeze(tail) }
        publishApplied(tail)
    }

    private func applyWrite(_ entry: Entry) {
        let first = entry.header.firstSequence
        // Nothing here counts references: that would cost a small write a fifth of its time.
        let distance = active.writing._withUnsafeGuaranteedRef { memtable in
            entry.withPayload { payload in
                do throws(DecodingError) {
                    return try Store.insert(payload, into: memtable, firstSequence: first)
                } catch {
                    brokenInvariant("a write entry was not validated: \(error)")
                }
            }
        }
        active.horizon = SequenceNumber(first.rawValue - distance)
    }

    private func applyBulk(_ entry: Entry) {
        entry.withPayload { payload in
            active.memtable.insertRun(payload, firstSequence: entry.header.firstSequence)
        }
    }

    /// Returns how far the horizon is behind the first sequence.
    private static func insert(
        _ payload: UnsafeRawBufferPointer, into memtable: Memtable, firstSequence: SequenceNumber
    ) throws(DecodingError) -> UInt64 {
        var reader = try WritePayloadReader(payload)
        var sequence = firstSequence
        var ahead = reader
        var approached = 0
        while let effect = try reader.next() {
            if reader.count >= Store.approachMin {
                if approached == 0 { approached = try approach(&ahead, memtable) }
                approached -= 1
            }
            switch effect {
            case .put(let key, let value):
                memtable.insert(key, Trailer(sequence, .put), value)
            case .expiringPut(let key, let stored):
                memtable.insert(key, Trailer(sequence, .expiringPut), stored)
            case .delete(let key):
                memtable.insert(
                    key, Trailer(sequence, .delete), UnsafeRawBufferPointer(start: nil, count: 0))
            case .merge(let key, let stored):
                memtable.insert(key, Trailer(sequence, .merge), stored)
            case .singleDelete(let key):
                memtable.insert(
                    key, Trailer(sequence, .singleDelete),
                    UnsafeRawBufferPointer(start: nil, count: 0))
            case .deleteRange(let start, let end):
                memtable.insert(
                    RangeTombstone(
                        span: KeySpan(start: [UInt8](start), end: end.map { [UInt8]($0) }),
                        sequence: sequence))
            }
            sequence += 1
        }
        return reader.horizonDistance
    }

    /// Fewer effects are not worth a second look.
    private static let approachMin = 4
    /// Keys that are searched for together.
    private static let approachMax = 16

    /// Reads some effects ahead, and returns how many.
    private static func approach(_ ahead: inout WritePayloadReader, _ memtable: Memtable)
        throws(DecodingError) -> Int
    {
        var failure: DecodingError?
        var count = 0
        withUnsafeTemporaryAllocation(
            of: UnsafeRawBufferPointer.self, capacity: Store.approachMax
        ) { keys in
            var used = 0
            do throws(DecodingError) {
                while count < Store.approachMax, let effect = try ahead.next() {
                    count += 1
                    guard let key = effect.pointKey else { continue }
                    keys.initializeElement(at: used, to: key)
                    used += 1
                }
            } catch { failure = error }
            memtable.approach(UnsafeBufferPointer(rebasing: keys[..<used]))
        }
        if let failure { throw failure }
        return count
    }

    private func applyControl(_ entry: Entry) {
        entry.withPayload { payload in
            do throws(DecodingError) {
                switch entry.header.kind {
                case .settings: settings = try LoggedSettings(decoding: payload)
                case .membership: membership = try Membership(decoding: payload)
                case .seal, .compact, .compacted, .cancelled:
                    // Entries at or below the frontier are part of the manifest already.
                    if entry.index > recordedThrough { applyJobEntry(entry) }
                case .noop, .rotate: break
                case .write, .bulk, .excise:
                    brokenInvariant("entry kind \(entry.header.kind) was not refused")
                }
            } catch {
                brokenInvariant("an entry was not validated: \(error)")
            }
        }
    }

    /// The active segment is complete: its memtable waits for its flush.
    private func freeze(_ tail: LogPoint) {
        let segment = FrozenSegment(
            bounds: SegmentBounds(first: active.first, last: tail.position.index), tail: tail,
            shape: active.shape, blobs: active.blobs, horizon: active.horizon,
            memtable: active.memtable, settings: settings, membership: membership)
        if !segment.isEmpty {
            logical.segmentEnded(segment.bounds)
            noteJobInput(.segmentEnded(segment.bounds))
        }
        frozen.append(segment)
        nextSpaceCheck = 0
        active = ActiveSegment(first: tail.position.index + 1, settings: settings)
        publishView()
    }

    /// Goes on behind `tail`: an unsynced log lost entries whose places are not used again. The
    /// log begins a segment there, so the memtable does, too.
    package func skip(to tail: LogPoint) {
        if active.memtable.isEmpty {
            active = ActiveSegment(first: tail.position.index + 1, settings: settings)
            publishView()
        } else {
            freeze(tail)
        }
        publishApplied(tail)
    }

}
