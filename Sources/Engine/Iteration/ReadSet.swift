// What a transaction has read: keys and ranges of keys. It has to be read anew if anything newer
// than its sequence touches one of them. Pure: sources are asked one by one, by `ReadView` (applied
// data) and for batches that are on their way into the log.

package struct ReadSet: Sendable {
    private var keys: Set<[UInt8]> = []
    private var spans: [KeySpan] = []

    package init() {}

    package var isEmpty: Bool { keys.isEmpty && spans.isEmpty }

    package mutating func add(_ key: [UInt8]) { keys.insert(key) }

    package mutating func add(_ span: KeySpan) {
        guard !span.isEmpty else { return }
        // A scan that goes on where the last one ended makes one range of both.
        if let last = spans.last, last.end == span.start {
            spans[spans.count - 1].end = span.end
        } else {
            spans.append(span)
        }
    }

    /// A key that was read and that an effect of `batch` writes; nil if there is none.
    package func touched(by batch: WriteBatch) -> [UInt8]? {
        batch.effects.bytes.withUnsafeBytes { bytes in
            do throws(DecodingError) {
                var reader = WritePayloadReader(effects: bytes, count: batch.count)
                while let effect = try reader.next() {
                    if let key = touched(by: effect) { return key }
                }
                return nil
            } catch {
                brokenInvariant("a batch is malformed: \(error)")
            }
        }
    }

    /// A key that was read and that the payload of a `bulk` entry puts.
    func touched(byBulk payload: [UInt8]) -> [UInt8]? {
        payload.withUnsafeBytes { bytes in
            do throws(DecodingError) {
                var reader = try BulkPayloadReader(bytes)
                while let (key, _) = try reader.next() {
                    if let key = touched(by: key) { return key }
                }
                return nil
            } catch {
                brokenInvariant("a bulk is malformed: \(error)")
            }
        }
    }

    private func touched(by effect: Effect) -> [UInt8]? {
        switch effect {
        case .put(let key, _), .expiringPut(let key, _), .delete(let key), .merge(let key, _),
            .singleDelete(let key):
            return touched(by: key)
        case .deleteRange(let start, let end):
            return touched(by: KeySpan(start: [UInt8](start), end: end.map { [UInt8]($0) }))
        }
    }

    private func touched(by borrowed: UnsafeRawBufferPointer) -> [UInt8]? {
        let key = [UInt8](borrowed)
        return keys.contains(key) || spans.contains { $0.contains(key) } ? key : nil
    }

    private func touched(by deleted: KeySpan) -> [UInt8]? {
        if let key = keys.first(where: { deleted.contains($0) }) { return key }
        guard let span = spans.first(where: { $0.overlaps(deleted) }) else { return nil }
        return span.start.isKeyBefore(deleted.start) ? deleted.start : span.start
    }

    /// A key that was read and that a version or a range tombstone of `memtable` above `sequence`
    /// touches.
    func touched(by memtable: Memtable, above sequence: SequenceNumber) throws(EngineError)
        -> [UInt8]?
    {
        for tombstone in memtable.rangeTombstones.tombstones where tombstone.sequence > sequence {
            if let key = touched(by: tombstone.span) { return key }
        }
        for key in keys {
            let found = key.withUnsafeBytes { memtable.lookup($0, at: SequenceNumber.max) }
            if let found, found.trailer.sequence > sequence { return key }
        }
        let cursor = memtable.makeCursor()
        for span in spans {
            try withKey(span.start) { (start) throws(EngineError) in
                try cursor.seek(start, Trailer(rawValue: .max))
            }
            while cursor.isValid, span.end.map({ $0.compare(with: cursor.key) > 0 }) ?? true {
                if cursor.trailer.sequence > sequence { return [UInt8](cursor.key) }
                try cursor.next()
            }
        }
        return nil
    }

    /// As above, of a table that is read for it.
    func touched(by table: TableHandle, above sequence: SequenceNumber) throws(EngineError)
        -> [UInt8]?
    {
        let reader = try table.reader(io: .blocking)
        for tombstone in try reader.rangeTombstones(io: .blocking).tombstones
        where tombstone.sequence > sequence {
            if let key = touched(by: tombstone.span) { return key }
        }
        for key in keys where table.record.span.contains(key) {
            let isNewer = try withKey(key) { (key) throws(EngineError) in
                let found = try reader.lookup(
                    key, hash: Checksum.hash64(key), at: SequenceNumber.max, io: .blocking)
                return (found?.trailer.sequence ?? .zero) > sequence
            }
            if isNewer { return key }
        }
        for span in spans where table.record.span.overlaps(span) {
            let cursor = try table.makeCursor(io: .blocking)
            try withKey(span.start) { (start) throws(EngineError) in
                try cursor.seek(start, Trailer(rawValue: .max))
            }
            while cursor.isValid, span.end.map({ $0.compare(with: cursor.key) > 0 }) ?? true {
                if cursor.trailer.sequence > sequence { return [UInt8](cursor.key) }
                try cursor.next()
            }
        }
        return nil
    }
}

extension ReadView {
    /// A key of `reads` that anything above `sequence` touches; nil if nothing does. The horizon of
    /// the jobs that made the tables must be at or below `sequence`: others let tombstones go.
    package func firstTouched(_ reads: ReadSet, above sequence: SequenceNumber)
        throws(EngineError) -> [UInt8]?
    {
        for memtable in memtables {
            if let key = try reads.touched(by: memtable, above: sequence) { return key }
        }
        for table in tables(above: sequence) {
            if let key = try reads.touched(by: table, above: sequence) { return key }
        }
        return nil
    }

    /// Tables that hold anything above `sequence`.
    private func tables(above sequence: SequenceNumber) -> [TableHandle] {
        (standIns + version.tables).filter { $0.record.largestSequence > sequence }
    }

    /// Whether all above `sequence` is in memtables: then looking for it waits for no disk.
    package func isInMemory(above sequence: SequenceNumber) -> Bool {
        standIns.allSatisfy { $0.record.largestSequence <= sequence }
            && version.tables.allSatisfy { $0.record.largestSequence <= sequence }
    }
}
