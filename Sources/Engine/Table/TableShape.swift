// What shapes the bytes of a table besides its entries. Both come from the log (the settings of a
// segment, the specification of a job), so every replica writes with the same shape.

package struct TableShape: Hashable, Sendable {
    /// Canonical bytes at which a data block is cut.
    package var blockBytes: Int
    /// Filter bits per user key; 0 writes no filter.
    package var filterBitsPerKey: Int

    package init(blockBytes: Int, filterBitsPerKey: Int) {
        self.blockBytes = blockBytes
        self.filterBitsPerKey = filterBitsPerKey
    }

    package init(_ settings: LoggedSettings) {
        self.init(
            blockBytes: Int(settings.blockBytes),
            filterBitsPerKey: Int(settings.filterBitsPerKey))
    }
}
