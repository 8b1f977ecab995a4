// Blocks that replicas gave for damaged ones here, verified, kept in memory until the table is
// rewritten: a hot block is fetched once, and the rewrite need not fetch it again. Bounded by
// bytes; past the bound a block is fetched at each need.

struct RepairedBlocks {
    private var tables: [TableID: [BlockOrdinal: RepairedBlock]] = [:]
    private(set) var byteCount = 0

    /// Enough for a burst, never for a whole database.
    static let bytesMax = 64 << 20

    subscript(address: BlockAddress) -> RepairedBlock? {
        tables[address.table]?[address.ordinal]
    }

    mutating func keep(_ block: RepairedBlock, for address: BlockAddress) {
        guard byteCount + block.bytes.count <= RepairedBlocks.bytesMax, self[address] == nil else {
            return
        }
        byteCount += block.bytes.count
        tables[address.table, default: [:]][address.ordinal] = block
    }

    mutating func forget(_ table: TableID) {
        guard let blocks = tables.removeValue(forKey: table) else { return }
        byteCount -= blocks.values.reduce(0) { $0 + $1.bytes.count }
    }
}

/// Whether bytes that come from elsewhere are the block that was asked for.
enum BlockProof {
    /// A leaf list is proved by the record, another block by its leaf's digest, which covers its
    /// type: the caller knows the digest and not always the type, so all types are tried.
    static func holds(
        _ bytes: [UInt8], _ address: BlockAddress, _ record: TableRecord, _ expected: Digest128?
    ) -> Bool {
        guard UInt64(bytes.count) <= record.canonicalBytes else { return false }
        if address.ordinal == .leaves {
            do throws(EngineError) {
                _ = try TableReader.decodeLeaves(bytes, record, from: nil)
                return true
            } catch {
                return false
            }
        }
        guard let expected else { return false }
        return bytes.withUnsafeBytes { raw in
            BlockType.allCases.contains {
                TableFormat.digest($0, address.ordinal, raw) == expected
            }
        }
    }
}
