// What shapes the bytes of a table besides its entries. All of it comes from the log (the settings
// of a segment, the specification of a job), so every replica writes with the same shape.

package struct TableShape: Hashable, Sendable {
    /// Canonical bytes at which a data block is cut.
    package var blockBytes: Int
    package var filter: FilterShape

    package init(blockBytes: Int, filter: FilterShape) {
        self.blockBytes = blockBytes
        self.filter = filter
    }

    /// With a BuRR filter of so many bits a key; 0 writes none.
    package init(blockBytes: Int, filterBitsPerKey: Int) {
        let policy = FilterPolicy(bitsPerKey: UInt32(clamping: filterBitsPerKey))
        self.init(blockBytes: blockBytes, filter: policy.shape(level: 0, isBottommost: false))
    }

    /// An index with more bytes has two levels. A filter takes several times as much as the index
    /// over the same keys, so both are cut at tables of about the same size.
    var indexBytesMax: Int { max(Int(filter.partitionAbove) / 8, 64) }

    /// That of a flushed table.
    package init(_ settings: LoggedSettings) {
        self.init(
            blockBytes: Int(settings.blockBytes(level: 0)),
            filter: settings.filter.shape(level: 0, isBottommost: false))
    }
}
