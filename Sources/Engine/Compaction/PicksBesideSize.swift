// Picks for reasons beside size: nothing is due by size, and a table is worth a job all the same.
// In this order: too much lies above the deepest level, a table is full of tombstones, is old, or
// is read for nothing. Each is off unless its option is set, and each job takes away the reason for
// it, so that none is planned for ever.

/// Reads that asked a table for a key that it does not hold. A hint of the leader's, never logged.
package struct FruitlessReads: Hashable, Sendable {
    package var table: TableID
    package var count: UInt64

    package init(table: TableID, count: UInt64) {
        self.table = table
        self.count = count
    }

    /// Tables that a planner is told of at a time.
    package static let tableMax = 64
}

/// When this planner first saw each live table. Lost with the process and with leadership: then all
/// ages begin anew, and what is due by age comes later.
package struct TableAges: Hashable, Sendable {
    private var since: [TableID: UInt64] = [:]

    package init() {}

    /// `now` is monotonic.
    package mutating func note(_ tables: ManifestTables, now: UInt64) {
        var next: [TableID: UInt64] = [:]
        for level in 0..<TableRecord.levelCount {
            for table in tables.tables(at: level) { next[table.id] = since[table.id] ?? now }
        }
        since = next
    }

    package func isOlder(_ table: TableID, than milliseconds: UInt64, now: UInt64) -> Bool {
        since[table].map { now >= $0 && now - $0 >= milliseconds } ?? false
    }
}

extension Picker {
    /// The level from which a table has to go down for the space's sake; nil if the bound holds.
    /// What jobs under way read counts as gone.
    var levelForSpace: UInt8? {
        guard options.spaceAmplificationPercentMax > 0, let deepest = manifest.tables.deepestLevel,
            deepest > 0
        else { return nil }
        var fullest: UInt8 = 0
        var most: UInt64 = 0
        var above: Double = 0
        for level in 0..<deepest {
            let free = manifest.tables.tables(at: level).filter(isFree)
            let bytes = free.reduce(UInt64(0)) { $0 &+ $1.canonicalBytes }
            above += Double(bytes)
            if bytes > most { (fullest, most) = (level, bytes) }
        }
        let bound =
            Double(manifest.tables.levelBytes[Int(deepest)])
            * Double(options.spaceAmplificationPercentMax) / 100
        return above > bound ? fullest : nil
    }

    /// The first table of which too large a part is tombstones that a job could drop, or bring
    /// nearer to what they hide.
    func pickTombstones() -> CompactionSpec? {
        guard options.tombstonePercent > 0 else { return nil }
        return pickFirst { table in
            let deletes = Double(table.deleteCount) * 100
            let isFull =
                table.entryCount == 0
                || deletes >= Double(options.tombstonePercent) * Double(table.entryCount)
            // Written in place it has none left, or the same table would come again.
            let isVisible = table.largestSequence <= facts.horizon
            return isFull
                && (isVisible || !manifest.isBottommost(table.span, below: table.level))
        }
    }

    /// The first table that nobody touched for too long.
    func pickOld(_ ages: TableAges) -> CompactionSpec? {
        guard options.rewriteAfterMilliseconds > 0 else { return nil }
        return pickFirst {
            ages.isOlder($0.id, than: options.rewriteAfterMilliseconds, now: facts.now)
        }
    }

    /// The table that most reads passed through for nothing, if what they look for lies below.
    func pickFruitless() -> CompactionSpec? {
        guard options.fruitlessReadsMax > 0 else { return nil }
        for reads in facts.fruitlessReads where reads.count >= options.fruitlessReadsMax {
            guard let table = manifest.tables.record(reads.table), isFree(table) else { continue }
            if table.level == 0 {
                if let spec = pickLevel0(eligible: { _ in true }) { return spec }
            } else if !manifest.isBottommost(table.span, below: table.level),
                let spec = grow([table], to: table.level + 1)
            {
                return spec
            }
        }
        return nil
    }

    /// Level 0 has its own trigger: from level 1 on, by key.
    private func pickFirst(where isWanted: (TableRecord) -> Bool) -> CompactionSpec? {
        for level in 1..<TableRecord.levelCount {
            for table in manifest.tables.tables(at: level) where isFree(table) && isWanted(table) {
                if let spec = sink(table) { return spec }
            }
        }
        return nil
    }

    /// Takes a table a level down, or writes it anew where nothing is below it.
    private func sink(_ table: TableRecord) -> CompactionSpec? {
        guard manifest.isBottommost(table.span, below: table.level) else {
            return grow([table], to: table.level + 1)
        }
        guard table.canonicalBytes <= unfinishedBytesLeft else { return nil }
        let spec = spec([table], outputLevel: table.level)
        return manifest.refusal(of: spec) == nil ? divided(spec) : nil
    }
}
