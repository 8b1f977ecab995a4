// What a table's filters are, what they cost and how often they are wrong: measured with keys that
// are not there, since a filter's promise is a probability and its bytes may lie. Every key that is
// there is asked for, too; a "no" to one of them would hide data. For `martlet sst filter`.

/// One filter block.
package struct FilterBlockSummary: Sendable {
    package var ordinal: BlockOrdinal
    /// As in docs/formats/table.md.
    package var type: String
    package var bytes: Int
    /// From the filter's own header; nil for an index of partitions, or if damaged.
    package var form: FilterForm?
    package var damage: String?
}

/// The header of a filter.
package enum FilterForm: Hashable, Sendable {
    case bloom(probes: Int, blocks: Int)
    case burr(bits: Int, layers: Int, listed: Int)

    /// Nil unless `FilterView.validate` accepts the bytes.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard (try? FilterView.validate(bytes)) != nil else { return nil }
        let count = Int(
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        self =
            bytes[0] == BurrFormat.kind
            ? .burr(bits: Int(bytes[1]), layers: Int(bytes[2]), listed: count)
            : .bloom(probes: Int(bytes[1]), blocks: count)
    }
}

/// Answers of a filter to keys, or prefixes, of which it is known whether they are there.
package struct FilterTrial: Sendable, Hashable {
    /// Distinct ones in the table.
    package var present = 0
    /// Of them, answered "no".
    package var falseNegatives = 0
    /// Asked for and not there.
    package var absent = 0
    /// Of them, answered "maybe".
    package var falsePositives = 0
    package var bytes = 0

    package init() {}

    package var bitsPerKey: Double { present > 0 ? Double(bytes) * 8 / Double(present) : 0 }
    package var falsePositiveRate: Double {
        absent > 0 ? Double(falsePositives) / Double(absent) : 0
    }
}

package struct FilterReport: Sendable {
    /// What the table was built with; nil if its properties are damaged.
    package var shape: FilterShape?
    package var blocks: [FilterBlockSummary] = []
    /// Memory that the open table keeps; partitions come and go with the block cache.
    package var residentBytes = 0
    /// Of whole keys; nil without a sound filter.
    package var keys: FilterTrial?
    package var prefixes: FilterTrial?
    /// Data blocks whose keys could not be asked for.
    package var damagedDataBlocks = 0

    package var isSound: Bool {
        blocks.allSatisfy { $0.damage == nil } && damagedDataBlocks == 0
            && (keys?.falseNegatives ?? 0) == 0 && (prefixes?.falseNegatives ?? 0) == 0
    }
}

extension TableReader {
    /// Asks the filters for every key of the table and for `samples` that are not in it, which
    /// follow from `seed` and lie among those that are.
    package func filterReport(samples: Int, seed: UInt64) -> FilterReport {
        var report = FilterReport()
        report.shape = try? properties().shape.filter
        report.blocks = filterBlocks()
        report.residentBytes =
            (filter?.residentBytes ?? 0) + (filterIndex?.residentBytes ?? 0)
            + (prefixFilter?.residentBytes ?? 0)
        var probe = FilterProbe(self)
        report.damagedDataBlocks = forEachKey { probe.askPresent($0) }
        probe.askAbsent(samples, SeededRandom(seed: seed))
        if filter != nil || filterIndex != nil { report.keys = probe.keys }
        if prefixFilter != nil { report.prefixes = probe.prefixes }
        report.keys?.bytes = bytes(of: report.blocks) { $0 != "\(BlockType.prefixFilter)" }
        report.prefixes?.bytes = bytes(of: report.blocks) { $0 == "\(BlockType.prefixFilter)" }
        return report
    }

    private func bytes(of blocks: [FilterBlockSummary], _ isCounted: (String) -> Bool) -> Int {
        blocks.reduce(0) { $0 + (isCounted($1.type) ? $1.bytes : 0) }
    }

    private func filterBlocks() -> [FilterBlockSummary] {
        var blocks: [FilterBlockSummary] = []
        for number in leafList.dataCount..<leafList.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = leafList[ordinal]
            switch leaf.type {
            case .filter, .filterPartition, .filterIndex, .prefixFilter: break
            default: continue
            }
            var summary = FilterBlockSummary(
                ordinal: ordinal, type: "\(leaf.type)", bytes: leaf.length)
            do throws(EngineError) {
                let block = try loadBlock(ordinal, mending: false)
                defer { block.deallocate() }
                describe(block.canonical, leaf.type, &summary)
            } catch {
                summary.damage = error.description
            }
            blocks.append(summary)
        }
        return blocks
    }

    private func describe(
        _ bytes: UnsafeRawBufferPointer, _ type: BlockType, _ summary: inout FilterBlockSummary
    ) {
        if type == .filterIndex {
            if filterIndex == nil { summary.damage = "it does not decode" }
            return
        }
        // A prefix filter begins with its extractor and a zero.
        let head = type == .prefixFilter ? PrefixExtractor.encodedBytes + 1 : 0
        if bytes.count > head {
            summary.form = FilterForm(UnsafeRawBufferPointer(rebasing: bytes[head...]))
        }
        if summary.form == nil { summary.damage = "it does not decode" }
    }
}

/// Asks one table's filters and keeps count.
private struct FilterProbe {
    let reader: TableReader
    private(set) var keys = FilterTrial()
    private(set) var prefixes = FilterTrial()
    private var lastPrefix: [UInt8]?
    /// Some of the keys, from which absent ones are made.
    private var models: [[UInt8]] = []
    private var stride = 1

    private static let modelsMax = 4096

    init(_ reader: TableReader) { self.reader = reader }

    mutating func askPresent(_ key: UnsafeRawBufferPointer) {
        if keys.present % stride == 0 { keep([UInt8](key)) }
        keys.present += 1
        if !reader.mayContain(key, hash: Checksum.hash64(key), io: .blocking) {
            keys.falseNegatives += 1
        }
        guard let filter = reader.prefixFilter, let length = filter.extractor.prefixLength(key)
        else { return }
        let prefix = UnsafeRawBufferPointer(rebasing: key[..<length])
        if let lastPrefix, lastPrefix.compare(with: prefix) == 0 { return }
        lastPrefix = [UInt8](prefix)
        prefixes.present += 1
        if !filter.mayContain(keysFrom: prefix) { prefixes.falseNegatives += 1 }
    }

    /// Evenly over the table, however long it is: every second model goes when there are too many.
    private mutating func keep(_ key: [UInt8]) {
        models.append(key)
        guard models.count == FilterProbe.modelsMax else { return }
        models = models.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        stride *= 2
    }

    mutating func askAbsent(_ samples: Int, _ random: SeededRandom) {
        guard !models.isEmpty else { return }
        var random = random
        let cursor = reader.makeCursor(io: .blocking, fillCache: false)
        for number in 0..<samples {
            let tail = withUnsafeBytes(of: random.next()) { [UInt8]($0) }
            let key = models[number % models.count] + tail
            askAbsentKey(key, cursor)
            if let filter = reader.prefixFilter {
                askAbsentPrefix(Self.prefix(filter.extractor, tail, &random), filter, cursor)
            }
        }
    }

    private mutating func askAbsentKey(_ key: [UInt8], _ cursor: TableCursor) {
        let isMaybe = key.withUnsafeBytes {
            reader.mayContain($0, hash: Checksum.hash64($0), io: .blocking)
        }
        if isMaybe {
            // Whether it is there after all; behind damage nobody knows.
            guard let found = start(of: key, cursor), !found else { return }
            keys.falsePositives += 1
        }
        keys.absent += 1
    }

    private mutating func askAbsentPrefix(
        _ prefix: [UInt8], _ filter: PrefixFilter, _ cursor: TableCursor
    ) {
        guard let found = start(of: prefix, cursor), !found else { return }
        prefixes.absent += 1
        if prefix.withUnsafeBytes({ filter.mayContain(keysFrom: $0) }) {
            prefixes.falsePositives += 1
        }
    }

    /// Whether a key begins with `text`; nil if that cannot be read.
    private func start(of text: [UInt8], _ cursor: TableCursor) -> Bool? {
        do {
            try text.span.bytes.withUnsafeBytes { raw throws(EngineError) in
                try cursor.seek(raw, Trailer(rawValue: .max))
            }
        } catch { return nil }
        return cursor.isValid && cursor.key.starts(with: text)
    }

    /// A string that has a prefix by `extractor` and is nothing but that prefix.
    private static func prefix(
        _ extractor: PrefixExtractor, _ tail: [UInt8], _ random: inout SeededRandom
    ) -> [UInt8] {
        switch extractor {
        case .none: return []
        case .fixed(let length):
            var bytes = tail
            while bytes.count < Int(length) {
                bytes += withUnsafeBytes(of: random.next()) { [UInt8]($0) }
            }
            return Array(bytes.prefix(Int(length)))
        case .delimiter(let byte, let occurrence):
            let piece = tail.map { $0 == byte ? $0 &+ 1 : $0 }
            return (0..<Int(occurrence)).flatMap { _ in piece + [byte] }
        }
    }
}
