// Reading entries back, from any thread beside the appender. Where entries stand is looked up under
// the lock; the bytes are read without it and prove themselves: each entry's checksum and index are
// verified. Bytes that fail while the layout changed meanwhile are looked up again; else they are
// read once more from the medium, and what fails there too is a hole.

extension Log {
    /// Where the next entries are.
    private enum Place {
        case memory(Entry)
        case unloaded(LogSegment)
        /// `end` is where the last of the frames ends, or a little later.
        case file(Source, from: LogIndex, offsets: [UInt64], end: UInt64, layout: UInt64)
    }

    /// A segment's file with what it takes to read entries off it.
    private struct Source {
        let file: any File
        let first: LogIndex
        let cipher: FileCipher?

        init(_ segment: LogSegment) {
            file = segment.file
            first = segment.first
            cipher = segment.cipher
        }
    }

    /// Entries from `start` on, in order, at least one if there is any, about `maxBytes` at most.
    /// Ends before a hole; a hole at `start` throws `.logHole`. Empty above the last entry.
    package func entries(from start: LogIndex, maxBytes: Int) throws(EngineError) -> [Entry] {
        var result: [Entry] = []
        var next = start
        // Less than nothing is one entry, too; what is read is taken off it.
        var budget = max(maxBytes, 0)
        while result.isEmpty || budget > 0 {
            do throws(EngineError) {
                guard let place = try place(of: next, budget, isFirst: result.isEmpty) else {
                    break
                }
                let part = try read(place)
                result += part
                budget -= part.reduce(0) { $0 + $1.encoded.count }
                if let last = part.last { next = last.index + 1 }
            } catch {
                guard result.isEmpty else { break }
                throw error
            }
        }
        return result
    }

    /// The entry's place in the chain; nil outside the log and in a hole. Also answers for the
    /// entry just before the first, if that is known, and for a lost one that the manifest names.
    /// Reads the entry, unless it is the last one.
    package func position(at index: LogIndex) -> Position? {
        let known: Position? = lock.withLock {
            if index == lastPosition.index { return isLastKnown ? lastPosition : nil }
            if index == base.index, holeList.hole(containing: index) != nil { return base }
            let before = segments.first?.header?.previous
            return before?.index == index && index < firstLocked ? before : nil
        }
        if let known { return known }
        guard index > .zero, index <= last.index else { return nil }
        guard let entry = try? entries(from: index, maxBytes: 1).first, entry.index == index else {
            return nil
        }
        return entry.position
    }

    // MARK: Looking up

    private func place(of start: LogIndex, _ budget: Int, isFirst: Bool) throws(EngineError)
        -> Place?
    {
        try lock.withLock { () throws(EngineError) in
            guard start <= lastPosition.index else { return nil }
            guard start >= firstLocked else { throw .logTrimmed(first: firstLocked) }
            let number = segmentNumber(holding: start)
            var segment = segments[number]
            var index = start
            if index >= segment.next {
                // Indexes that were skipped.
                guard number + 1 < segments.count else { return nil }
                segment = segments[number + 1]
                index = segment.first
            }
            if !mended.isEmpty, let entry = mended[index] { return .memory(entry) }
            guard let offsets = segment.offsets else { return .unloaded(segment) }
            useClock += 1
            segment.lastUse = useClock
            return try run(in: segment, offsets, Int(index - segment.first), budget, isFirst)
        }
    }

    /// The last segment that starts at or below `index`.
    func segmentNumber(holding index: LogIndex) -> Int {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].first <= index { low = middle + 1 } else { high = middle }
        }
        invariant(low > 0, "no segment starts at or below \(index)")
        return low - 1
    }

    private func run(
        in segment: LogSegment, _ offsets: [UInt64], _ start: Int, _ budget: Int, _ isFirst: Bool
    ) throws(EngineError) -> Place? {
        let from = segment.first + UInt64(start)
        guard start < offsets.count, offsets[start] != OffsetTable.missing else {
            throw .logHole(from)
        }
        var stop = start
        var end = offsets[start]
        while stop < offsets.count, offsets[stop] != OffsetTable.missing {
            if stop > start, !mended.isEmpty, mended[segment.first + UInt64(stop)] != nil { break }
            let nextEnd = endOfFrame(stop, offsets, segment.end)
            let size = nextEnd - offsets[start]
            // Both are inside one file, hence far below Int.max, and in order: `loadedOffsets`.
            if Int(size) > budget, stop > start || !isFirst { break }
            end = nextEnd
            stop += 1
        }
        guard stop > start else { return nil }
        return .file(
            Source(segment), from: from, offsets: Array(offsets[start..<stop]), end: end,
            layout: layout)
    }

    private func endOfFrame(_ place: Int, _ offsets: [UInt64], _ end: UInt64) -> UInt64 {
        var next = place + 1
        while next < offsets.count {
            if offsets[next] != OffsetTable.missing { return offsets[next] }
            next += 1
        }
        return end
    }

    // MARK: Reading

    private func read(_ place: Place) throws(EngineError) -> [Entry] {
        switch place {
        case .memory(let entry): return [entry]
        case .unloaded(let segment):
            _ = try loadedOffsets(segment)
            return []
        case .file(let source, let from, let offsets, let end, let layout):
            let entries = Log.read(source, from, offsets, end)
            if !entries.isEmpty { return entries }
            try reportDamage(at: from, layout)
            return []
        }
    }

    /// The entries that verify, up to the first that does not.
    private static func read(
        _ source: Source, _ from: LogIndex, _ offsets: [UInt64], _ end: UInt64
    ) -> [Entry] {
        guard let start = offsets.first else { return [] }
        let bytes = (try? source.file.readBytes(at: start, count: Int(end - start))) ?? []
        var entries: [Entry] = []
        entries.reserveCapacity(offsets.count)
        for (number, offset) in offsets.enumerated() {
            let index = from + UInt64(number)
            if let entry = Log.entry(in: bytes, at: Int(offset - start), offset, source, index) {
                entries.append(entry)
                continue
            }
            let next = number + 1 < offsets.count ? offsets[number + 1] : end
            let again = try? source.file.readBytes(
                at: offset, count: Int(next - offset), fromMedium: true)
            guard let again, let entry = Log.entry(in: again, at: 0, offset, source, index) else {
                break
            }
            entries.append(entry)
        }
        return entries
    }

    /// The entry of the frame at `place` in `bytes`, which stands at `offset` in the file.
    private static func entry(
        in bytes: [UInt8], at place: Int, _ offset: UInt64, _ source: Source, _ index: LogIndex
    ) -> Entry? {
        let body = place + LogFrame.size
        if let cipher = source.cipher {
            let plain = decrypted(
                bytes, at: place, LogFrame.Place(first: source.first, offset: offset), cipher)
            guard let plain, let entry = try? Entry(decoding: plain), entry.index == index else {
                return nil
            }
            return entry
        }
        let header = bytes.withUnsafeBytes { raw -> EntryHeader? in
            guard raw.count >= body + EntryHeader.size else { return nil }
            return try? EntryHeader(parsing: UnsafeRawBufferPointer(rebasing: raw[body...]))
        }
        guard let header, header.index == index else { return nil }
        let end = body + EntryHeader.size + Int(header.length)
        guard end <= bytes.count else { return nil }
        return try? Entry(decoding: Array(bytes[body..<end]))
    }

    /// Nil unless frame and entry are whole and authentic.
    private static func decrypted(
        _ bytes: [UInt8], at start: Int, _ place: LogFrame.Place, _ cipher: FileCipher
    ) -> [UInt8]? {
        bytes.withUnsafeBytes { raw -> [UInt8]? in
            let body = start + LogFrame.size
            guard raw.count >= body,
                let frame = LogFrame(
                    decoding: UnsafeRawBufferPointer(rebasing: raw[start..<body]), at: place),
                frame.isEncrypted, raw.count - body >= Int(frame.length)
            else { return nil }
            let length = Int(frame.length)
            let stored = UnsafeRawBufferPointer(rebasing: raw[body..<(body + length)])
            var isAuthentic = false
            let plain = [UInt8](unsafeUninitializedCapacity: length) { target, count in
                isAuthentic = frame.open(
                    stored, to: UnsafeMutableRawBufferPointer(target), at: place, cipher)
                count = length
            }
            return isAuthentic ? plain : nil
        }
    }

    /// Returns if the log changed since the entry was looked up; else the entry is a hole now.
    private func reportDamage(at index: LogIndex, _ seen: UInt64) throws(EngineError) {
        let hole = damagedRun(from: index)
        let isStale = lock.withLock {
            guard layout == seen else { return true }
            holeList.insert(hole)
            return false
        }
        if !isStale { throw .logHole(index) }
    }

    /// Damage comes in sectors and pages: the run of lost entries ends where the next entry can be
    /// read again, since that one names the last lost one by content.
    private func damagedRun(from index: LogIndex) -> LogHole {
        let (last, isKnown) = lock.withLock { (lastPosition, isLastKnown) }
        var hole = LogHole(lower: index, upper: index, checksum: nil)
        while hole.upper < last.index {
            let next = hole.upper + 1
            // Joins the hole behind it, which knows its own end.
            if lock.withLock({ holeList.hole(containing: next) }) != nil { return hole }
            if let previous = previousNamed(by: next) {
                hole.checksum = previous
                return hole
            }
            hole.upper = next
        }
        hole.checksum = isKnown ? last.checksum : nil
        return hole
    }

    /// What the entry at `index` calls its predecessor; nil if it is damaged, too.
    private func previousNamed(by index: LogIndex) -> Digest128? {
        for _ in 0..<2 {
            guard let place = try? place(of: index, 0, isFirst: true) else { return nil }
            switch place {
            case .memory(let entry): return entry.header.previous
            case .unloaded(let segment):
                guard (try? loadedOffsets(segment)) != nil else { return nil }
            case .file(let source, let from, let offsets, let end, _):
                return Log.read(source, from, offsets, end).first?.header.previous
            }
        }
        return nil
    }

    // MARK: Offset tables

    /// The segment's offsets, from memory, its footer, or by walking its frames.
    func loadedOffsets(_ segment: LogSegment) throws(EngineError) -> [UInt64] {
        let (held, file, seen) = lock.withLock { (segment.offsets, segment.file, layout) }
        if let held { return held }
        var end = segment.end
        var offsets = SegmentFooter.readOffsets(file) ?? []
        // A summary that does not go with the table may tell any end.
        let last = offsets.last { $0 != OffsetTable.missing } ?? 0
        if offsets.count != segment.count || last >= end {
            (offsets, end) = try walk(segment)
        }
        lock.withLock {
            guard layout == seen else { return }
            segment.offsets = offsets
            segment.end = end
            useClock += 1
            segment.lastUse = useClock
            evictTables()
        }
        return offsets
    }

    private func walk(_ segment: LogSegment) throws(EngineError) -> ([UInt64], end: UInt64) {
        let rules = LogScan.Rules(
            group: group, cut: LogIndex.limit, cutTerm: .zero, epoch: 0, countsCommit: false)
        let before = Position(term: .zero, index: segment.first - 1, checksum: .zero)
        var scan = LogScan(after: before, isChainKnown: false, rules: rules)
        let window = try logIO { () throws(FileError) in try SegmentWindow(segment) }
        var found = scan.scan(
            window, first: segment.first, header: segment.header, bound: segment.last)
        let lost = segment.count - found.offsets.count
        found.offsets += [UInt64](repeating: OffsetTable.missing, count: max(lost, 0))
        return (found.offsets, found.end)
    }

    /// Keeps the tables of the sealed segments that were read last.
    private func evictTables() {
        let loaded = segments.filter { $0.isSealed && $0.offsets != nil }
        guard loaded.count > options.cachedTables else { return }
        let oldest = loaded.min { $0.lastUse < $1.lastUse }
        oldest?.offsets = nil
    }
}
