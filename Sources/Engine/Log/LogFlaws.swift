// Where in the files of a log what is wrong with it stands, for errors and for the operator. Reads
// files, and is asked only where something is wrong.

/// What was found wrong with a file of the log, or with hard state.
package struct LogFlaw: Sendable {
    package var file: String
    package var damage: FileDamage

    package var text: String { damage.of(file) }
}

extension LogRecovery {
    mutating func note(_ file: String, _ damage: FileDamage) {
        flaws.append(LogFlaw(file: file, damage: damage))
    }
}

extension Log {
    /// Of entry `index`, which is damaged, missing or contradicts others.
    package func corrupt(at index: LogIndex, _ reason: String) -> EngineError {
        let segment = lock.withLock { () -> LogSegment? in
            guard let first = segments.first?.first, index >= first else { return nil }
            return segments[segmentNumber(holding: index)]
        }
        guard let segment, let offsets = try? loadedOffsets(segment) else {
            return .corrupt(file: directory, reason: reason)
        }
        let flaw = flaw(at: index, in: segment, offsets, reason)
        return .corrupt(file: flaw.file, offset: flaw.damage.offset, reason: reason)
    }

    /// `offsets` are those of `segment`, the last one that begins at or below `index`; behind their
    /// end nothing was found.
    func flaw(
        at index: LogIndex, in segment: LogSegment, _ offsets: [UInt64], _ reason: String
    ) -> LogFlaw {
        let number = Int(clamping: index.rawValue - segment.first.rawValue)
        if number < offsets.count, offsets[number] != OffsetTable.missing {
            return LogFlaw(file: segment.path, damage: FileDamage(at: offsets[number], reason))
        }
        if let summary = segment.readSummary(), summary.next <= index {
            // It stood in a file that is gone.
            let name = LogSegment.fileName(summary.next)
            return LogFlaw(file: directory + "/" + name, damage: FileDamage(reason))
        }
        let before = offsets.prefix(number).last { $0 != OffsetTable.missing }
        return LogFlaw(
            file: segment.path, damage: FileDamage(at: place(behind: before, in: segment), reason))
    }

    /// Where the frame behind the one at `offset` starts, or the first one of the segment.
    private func place(behind offset: UInt64?, in segment: LogSegment) -> UInt64? {
        guard let window = try? SegmentWindow(segment), window.size > 0 else { return nil }
        guard let offset else {
            // Without a header nobody knows how long it is.
            guard let header = segment.header else { return 0 }
            // Where nothing else is, recovery made the file in place of one that was gone.
            return window.size > header.dataStart ? header.dataStart : nil
        }
        return window.frame(at: offset).map {
            window.place(behind: offset + UInt64(LogFrame.size) + UInt64($0.length))
        }
    }

    /// For an open that mends nothing: throws what is wrong, if anything is.
    func refuse(_ flaws: [LogFlaw]) throws(EngineError) {
        guard let first = flaws.first(where: { $0.damage.offset != nil }) ?? flaws.first else {
            return
        }
        let others = flaws.filter { $0.text != first.text }.prefix(2).map(\.text)
        throw .corrupt(
            file: first.file, offset: first.damage.offset,
            reason: ([first.damage.reason] + others).joined(separator: "; ") + StrictCheck.remedy)
    }
}

extension SegmentWindow {
    /// Where the next frame starts behind one that ends at `end`: there, or, if only zeros follow,
    /// on the boundary where the next group does.
    func place(behind end: UInt64) -> UInt64 {
        let boundary = alignedToGroup(end)
        guard end < boundary, let padding = bytes(at: end, count: Int(boundary - end)),
            padding.allSatisfy({ $0 == 0 })
        else { return end }
        return boundary
    }
}
