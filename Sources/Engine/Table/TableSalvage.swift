// The last resort for a damaged table file that no replica can mend: every data block that is sound
// is copied into a new table file, in order; what was lost is told by blocks and keys. Index,
// filters, properties and leaf list are made anew. Where nothing of the data is lost and the
// properties are sound, the result is the original table, byte for byte, digest and all.
//
// A block is taken if its header, checksum and digest hold (that of the leaf list, else its own)
// and its versions come behind all that were taken before. It is never taken in part: of a block
// whose checksum fails no byte can be trusted. On one thread: for `martlet sst salvage`, and for a
// heal that makes lost parts of a table anew (`RemadeTable`).

/// What a salvage took and what it had to leave.
package struct SalvageReport: Sendable {
    package struct LostBlock: Sendable, Hashable {
        package var ordinal: BlockOrdinal
        package var damage: FileDamage
    }

    /// Data blocks in a row that could not be taken. Versions of keys from `first` to `last`, both
    /// included, may be missing; nil means that nothing tells where they began or ended.
    package struct Loss: Sendable, Hashable {
        package var blocks: [LostBlock]
        package var first: [UInt8]?
        package var last: [UInt8]?
    }

    package enum TombstoneLoss: Sendable, Hashable {
        case none
        /// Keys that range tombstones had deleted may be back.
        case lost(reason: String)
        /// Nobody can tell whether the table had range tombstones.
        case unknown
    }

    /// The record of the new file.
    package var record: TableRecord
    package var fileBytes: UInt64
    package var blocksTaken = 0
    package var losses: [Loss] = []
    /// More data blocks than those counted may have been there.
    package var mayLackBlocks = false
    package var tombstoneLoss = TombstoneLoss.none
    /// Versions that the table had by its own properties; nil if they are lost, too.
    package var entriesExpected: UInt64?
    /// False if the properties are sound and the sum over all versions is another one.
    package var sumMatches = true
    /// Damaged parts that were made anew and cost nothing.
    package var remade: [String] = []
    /// Of the table as it was, if the file still told.
    package var originalDigest: Digest128?

    package var blocksLost: Int { losses.reduce(0) { $0 + $1.blocks.count } }
    /// The new file holds all that the table held.
    package var isWhole: Bool {
        losses.isEmpty && !mayLackBlocks && tombstoneLoss == .none && sumMatches
            && (entriesExpected ?? record.entryCount) == record.entryCount
    }
    /// The new file is the same table as the old one was.
    package var isOriginal: Bool { isWhole && originalDigest == record.digest }
}

package enum TableSalvage {
    /// Writes what can be taken of the table file `path` to `output`, a new file, and syncs it: as
    /// encrypted as the old one is, under the same node key out of `keys`. `.invalid` if `output`
    /// exists, `.corrupt` if there is nothing to take; then no file is left.
    package static func run(
        _ fileSystem: any FileSystem, from path: String, to output: String, keys: KeyRing = .plain
    ) throws(EngineError) -> SalvageReport {
        guard !fileSystem.exists(output) else {
            throw .invalid(reason: "\(output) exists; name a file that does not")
        }
        let file = try engineError { () throws(FileError) in try fileSystem.open(path, .read) }
        let pass = SalvagePass(try SalvageSource(file, keys: keys)) { () throws(FileError) in
            try fileSystem.open(output, .create)
        }
        do throws(EngineError) {
            let report = try pass.run()
            try engineError { () throws(FileError) in
                try fileSystem.syncDirectory(parentDirectory(of: output))
            }
            return report
        } catch {
            if pass.hasCreatedFile { try? fileSystem.unlink(output) }
            throw error
        }
    }
}

/// One walk over the data blocks of a source. Not used twice.
private final class SalvagePass {
    private let source: SalvageSource
    private let makeFile: () throws(FileError) -> any File
    private var builder: TableBuilder?
    private(set) var hasCreatedFile = false

    private var lastKey: [UInt8]?
    private var lastTrailer = Trailer(rawValue: 0)
    private var blocksTaken = 0
    private var losses: [SalvageReport.Loss] = []
    /// Grows while block after block is lost.
    private var openLoss: SalvageReport.Loss?

    init(_ source: SalvageSource, makeFile: @escaping () throws(FileError) -> any File) {
        self.source = source
        self.makeFile = makeFile
    }

    func run() throws(EngineError) -> SalvageReport {
        let tombstoneLoss = try takeTombstones()
        for number in 0..<source.dataCount { try take(BlockOrdinal(UInt32(number))) }
        closeLoss(last: source.properties?.record.points?.largest)
        guard let builder else {
            throw .corrupt(
                file: source.table.file.path, reason: "nothing in it can be salvaged")
        }
        let (record, fileBytes) = try builder.finish()
        var report = SalvageReport(record: record, fileBytes: fileBytes)
        report.blocksTaken = blocksTaken
        report.losses = losses
        report.tombstoneLoss = tombstoneLoss
        report.remade = source.remade()
        report.originalDigest = source.digest
        if let known = source.properties?.record {
            report.entriesExpected = known.entryCount
            let isComplete = losses.isEmpty && tombstoneLoss == .none
            report.sumMatches = known.entrySum == record.entrySum || !isComplete
        }
        // All versions that the properties count: then no block is missing.
        let hasAll = report.entriesExpected == record.entryCount
        report.mayLackBlocks = !source.isDataCountKnown && !hasAll
        return report
    }

    private func output() throws(EngineError) -> TableBuilder {
        if let builder { return builder }
        let file = try engineError(makeFile)
        hasCreatedFile = true
        let made = TableBuilder(
            file: file, id: source.table.id, level: 0, shape: source.shape,
            codec: Compression(like: source.table.header?.codec ?? .none),
            keys: try source.keys.copying(epoch: source.table.header?.keyEpoch ?? 0),
            generation: source.table.header?.generation ?? 0)
        builder = made
        return made
    }

    private func takeTombstones() throws(EngineError) -> SalvageReport.TombstoneLoss {
        switch source.rangeTombstones() {
        case .none: return .none
        case .unknown: return .unknown
        case .lost(let reason): return .lost(reason: reason)
        case .found(let tombstones):
            let builder = try output()
            for tombstone in tombstones { builder.add(tombstone) }
            return .none
        }
    }

    private func take(_ ordinal: BlockOrdinal) throws(EngineError) {
        let block: CachedBlock
        do throws(FileDamage) {
            block = try source.load(ordinal, .data)
        } catch {
            return lose(ordinal, error)
        }
        defer { block.deallocate() }
        do throws(DecodingError) {
            try DataBlockFormat.validate(block.canonical)
        } catch {
            return lose(ordinal, FileDamage(error.description))
        }
        let data = DataBlock(block.bytes)
        guard isInOrder(data) else {
            return lose(
                ordinal, FileDamage("its versions are not in order behind those before"))
        }
        closeLoss(last: [UInt8](data.firstKey))
        let builder = try output()
        try data.forEachEntry { (key, entry) throws(EngineError) in
            try builder.add(key, entry.trailer, entry.value)
            lastTrailer = entry.trailer
        }
        lastKey = data.wholeKey(data.count - 1)
        blocksTaken += 1
    }

    /// Whether the versions ascend, and come behind the last one taken.
    private func isInOrder(_ data: DataBlock) -> Bool {
        var previous = lastKey
        var trailer = lastTrailer
        var isInOrder = true
        data.forEachEntry { key, entry in
            if let previous {
                let order = previous.compare(with: key)
                if order > 0 || order == 0 && entry.trailer >= trailer { isInOrder = false }
            }
            previous = [UInt8](key)
            trailer = entry.trailer
        }
        return isInOrder
    }

    private func lose(_ ordinal: BlockOrdinal, _ damage: FileDamage) {
        let place = source.table.place(of: ordinal)?.offset
        let lost = SalvageReport.LostBlock(ordinal: ordinal, damage: damage.placed(at: place))
        if openLoss == nil {
            openLoss = SalvageReport.Loss(
                blocks: [], first: lastKey ?? source.properties?.record.points?.smallest)
        }
        openLoss?.blocks.append(lost)
    }

    private func closeLoss(last: [UInt8]?) {
        guard var loss = openLoss.take() else { return }
        loss.last = last
        losses.append(loss)
    }
}

extension DataBlock {
    /// Visits the entries in order, with their whole keys, which are borrowed for the call. For
    /// tools: cursors are faster.
    package func forEachEntry<Failure: Error>(
        _ body: (UnsafeRawBufferPointer, Entry) throws(Failure) -> Void
    ) throws(Failure) {
        for index in 0..<count {
            let entry = entry(index)
            let key = wholeKey(index)
            try key.span.bytes.withUnsafeBytes { raw throws(Failure) in try body(raw, entry) }
        }
    }

    func wholeKey(_ index: Int) -> [UInt8] {
        let entry = entry(index)
        return firstKey.prefix(entry.shared) + [UInt8](entry.suffix)
    }
}
