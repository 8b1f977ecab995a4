// What tools show of a table's blocks and properties. Never asks a mender, leaves the cache alone,
// and goes on behind damage: what is wrong with a block is part of its summary.

/// One block, as the file has it.
package struct BlockSummary: Sendable {
    package var ordinal: BlockOrdinal
    /// As in docs/formats/table.md.
    package var type: String
    /// Where its header starts; nil where nothing tells.
    package var offset: UInt64?
    package var storedBytes: UInt32?
    package var canonicalBytes: Int
    /// Nil if its header is damaged.
    package var codec: BlockCodec?
    /// Of a sound data block.
    package var data: DataSummary?
    package var damage: FileDamage?

    package struct DataSummary: Sendable {
        package var entries: Int
        package var firstKey: [UInt8]
        package var lastKey: [UInt8]
        package var sequences: ClosedRange<SequenceNumber>
    }
}

extension TableReader {
    /// The properties as the file has them. `.blockLost` or `.corrupt` if they are damaged.
    package func properties() throws(EngineError) -> TableProperties {
        let block = try loadBlock(leafList.properties, mending: false)
        defer { block.deallocate() }
        do throws(DecodingError) {
            return try TableProperties(decoding: block.canonical)
        } catch {
            throw malformed(leafList.properties, error)
        }
    }

    /// Visits every block in file order, the leaf list last.
    package func forEachBlock(_ body: (BlockSummary) -> Void) {
        for number in 0..<leafList.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = leafList[ordinal]
            var summary = summarize(ordinal, leaf.type, length: leaf.length)
            do throws(FileDamage) {
                let block = try table.load(leaf, ordinal)
                defer { block.deallocate() }
                if leaf.type == .data { try summarizeData(block, &summary) }
            } catch {
                summary.damage = error
            }
            body(summary)
        }
        body(summarize(leafList.ordinal, .leaves, length: leafList.canonical.count))
    }

    private func summarize(_ ordinal: BlockOrdinal, _ type: BlockType, length: Int)
        -> BlockSummary
    {
        let place = table.place(of: ordinal)
        return BlockSummary(
            ordinal: ordinal, type: "\(type)", offset: place?.offset,
            storedBytes: place?.storedLength, canonicalBytes: length,
            codec: table.blockHeader(ordinal)?.codec)
    }

    /// Also asks the index for the block's first and last version, and its bounds for their
    /// sequences: a digest proves what was written, not that it was right.
    private func summarizeData(
        _ block: CachedBlock, _ summary: inout BlockSummary
    ) throws(FileDamage) {
        do throws(DecodingError) {
            try DataBlockFormat.validate(block.canonical)
        } catch {
            throw FileDamage(at: summary.offset, error.description)
        }
        let data = DataBlock(block.bytes)
        let last = data.wholeKey(data.count - 1)
        summary.data = BlockSummary.DataSummary(
            entries: data.count, firstKey: data.wholeKey(0), lastKey: last,
            sequences: data.sequences)
        let bounds = blockBounds(io: .blocking)?[Int(summary.ordinal.rawValue)]
        if let bounds, bounds != data.sequences {
            summary.damage = FileDamage(
                at: summary.offset, "the bounds of blocks tell of other sequences")
        }
        let lastTrailer = data.entry(data.count - 1).trailer
        // A lost index, or partition of it, is a damage of its own.
        guard
            let first = try? blockOrdinal(data.firstKey, data.entry(0).trailer, io: .blocking),
            let end = try? withKey(
                last,
                { (last) throws(EngineError) in
                    try blockOrdinal(last, lastTrailer, io: .blocking)
                })
        else { return }
        if first != Int(summary.ordinal.rawValue) || end != first {
            summary.damage = FileDamage(
                at: summary.offset, "the index leads elsewhere for its keys")
        }
    }

    /// Visits the keys of every sound data block, each once, in order; the number of blocks that
    /// are not sound.
    func forEachKey(_ body: (UnsafeRawBufferPointer) -> Void) -> Int {
        var damaged = 0
        var previous: [UInt8]?
        for number in 0..<leafList.dataCount {
            guard let block = try? loadBlock(BlockOrdinal(UInt32(number)), mending: false) else {
                damaged += 1
                continue
            }
            defer { block.deallocate() }
            guard (try? DataBlockFormat.validate(block.canonical)) != nil else {
                damaged += 1
                continue
            }
            DataBlock(block.bytes).forEachEntry { key, _ in
                if let previous, previous.compare(with: key) == 0 { return }
                previous = [UInt8](key)
                body(key)
            }
        }
        return damaged
    }
}

extension DataBlock {
    /// From the smallest to the largest of its versions.
    fileprivate var sequences: ClosedRange<SequenceNumber> {
        var smallest = entry(0).trailer.sequence
        var largest = smallest
        for index in 1..<max(count, 1) {
            let sequence = entry(index).trailer.sequence
            smallest = min(smallest, sequence)
            largest = max(largest, sequence)
        }
        return smallest...largest
    }
}
