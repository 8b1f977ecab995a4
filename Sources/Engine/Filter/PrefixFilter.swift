// The filter over the prefixes of a table's keys, with the extractor that made it: settings may
// have changed since, and a table answers by its own.
//
// Canonical bytes: extractor (kind, parameter, occurrence: u8 each), zero u8, then a filter.

package final class PrefixFilter: Sendable {
    package let extractor: PrefixExtractor
    private let filter: ResidentFilter

    static func encode(_ hashes: [UInt64], _ shape: FilterShape) -> [UInt8] {
        var writer = ByteWriter()
        shape.prefix.encode(into: &writer)
        writer.write(UInt8(0))
        writer.write(raw: shape.kind.encode(hashes, bits: Int(shape.prefixBits)))
        return writer.bytes
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        extractor = try PrefixExtractor(&reader)
        guard extractor != .none, try reader.read(UInt8.self) == 0 else {
            throw DecodingError("a prefix filter's header")
        }
        filter = try ResidentFilter(decoding: try reader.readBytes(reader.remaining))
    }

    package var residentBytes: Int { filter.residentBytes }

    /// False only if no key begins with `start`. Without an answer for it: true.
    package func mayContain(keysFrom start: UnsafeRawBufferPointer) -> Bool {
        guard let hash = extractor.prefixHash(start) else { return true }
        return filter.mayContain(hash)
    }
}
