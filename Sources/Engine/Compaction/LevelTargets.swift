// How much each level should hold, and to which level level 0 goes (the base level). Pure; only the
// planner asks.
//
// Fixed: the base level is 1, and targets grow from `baseLevelBytes` by the multiplier. Dynamic, as
// RocksDB's `level_compaction_dynamic_level_bytes`: targets go up from the largest level, and the
// base is the first level whose target would not be under `baseLevelBytes`; an empty tree fills its
// deepest level first. The base is never below a level that holds something, so data of level 0
// never passes older data on its way.

package struct LevelTargets: Hashable, Sendable {
    package let base: UInt8
    /// By level; of no meaning above the base.
    private let targets: [UInt64]

    package init(_ tables: ManifestTables, _ options: CompactionOptions) {
        guard options.sizesLevelsDynamically else {
            base = 1
            targets = (0..<TableRecord.levelCount).map { options.targetBytes(ofLevel: $0) }
            return
        }
        let deepest = TableRecord.levelCount - 1
        let multiplier = max(1, options.multiplier)
        let baseBytesMax = max(1, options.baseLevelBytes)
        let used = (1...deepest).filter { !tables.tables(at: $0).isEmpty }
        guard let first = used.first,
            let largest = used.map({ tables.levelBytes[Int($0)] }).max()
        else {
            base = deepest
            targets = Array(repeating: baseBytesMax, count: Int(TableRecord.levelCount))
            return
        }
        var bytes = largest
        for _ in first..<deepest { bytes /= multiplier }
        var base = first
        let baseBytesMin = baseBytesMax / multiplier
        if bytes <= baseBytesMin {
            bytes = baseBytesMin + 1
        } else {
            while base > 1, bytes > baseBytesMax {
                base -= 1
                bytes /= multiplier
            }
            bytes = min(bytes, baseBytesMax)
        }
        self.base = base
        targets = LevelTargets.growing(from: base, bytes, by: multiplier, atLeast: baseBytesMax)
    }

    private static func growing(
        from base: UInt8, _ first: UInt64, by multiplier: UInt64, atLeast least: UInt64
    ) -> [UInt64] {
        var bytes = first
        return (0..<TableRecord.levelCount).map { level in
            if level > base {
                let (product, isOver) = bytes.multipliedReportingOverflow(by: multiplier)
                bytes = isOver ? .max : product
            }
            return max(bytes, least)
        }
    }

    /// What `level` should hold at most; the deepest has no bound.
    package func bytes(_ level: UInt8) -> UInt64 {
        level < TableRecord.levelCount - 1 ? targets[Int(level)] : .max
    }

    /// Where data of `level` goes next.
    package func output(of level: UInt8) -> UInt8 { level == 0 ? base : level + 1 }
}
