// References to blob files: bytes that never change, and nothing else is taken for one.
import Engine
import Testing

@Suite struct BlobReferenceTests {
    private let plain = BlobReference(
        file: TableID(index: LogIndex(0x1234), kind: .flushBlob, ordinal: 3),
        block: BlockOrdinal(300), place: 5, length: 1_000, checksum: 0x0102_0304_0506_0708,
        expiry: nil)

    private var expiring: BlobReference {
        var reference = plain
        reference.file = TableID(index: LogIndex(1), kind: .compactionBlob, ordinal: 0)
        reference.expiry = 0x11
        return reference
    }

    private func encoded(_ reference: BlobReference) -> [UInt8] {
        var writer = ByteWriter()
        reference.encode(into: &writer)
        return writer.bytes
    }

    private func decoded(_ bytes: [UInt8]) throws -> BlobReference {
        try bytes.withUnsafeBytes { try BlobReference(decoding: $0) }
    }

    @Test func bytesNeverChange() throws {
        let golden: [UInt8] = [
            0, 0xb4, 0x24, 0x62, 3, 0xac, 2, 5, 0xe8, 7, 8, 7, 6, 5, 4, 3, 2, 1,
        ]
        #expect(encoded(plain) == golden)
        #expect(try decoded(golden) == plain)
        let withExpiry: [UInt8] = [
            1, 0x11, 0, 0, 0, 0, 0, 0, 0, 1, 0x67, 0, 0xac, 2, 5, 0xe8, 7, 8, 7, 6, 5, 4, 3, 2, 1,
        ]
        #expect(encoded(expiring) == withExpiry)
        #expect(try decoded(withExpiry) == expiring)
        #expect(plain.valueBytes == 1_000 && plain.kind == .put)
        #expect(expiring.valueBytes == 992 && expiring.kind == .expiringPut)
    }

    @Test func hostileBytesAreRefused() {
        for reference in [plain, expiring] {
            let bytes = encoded(reference)
            for count in 0..<bytes.count {
                #expect(throws: DecodingError.self) { try decoded(Array(bytes[..<count])) }
            }
            #expect(throws: DecodingError.self) { try decoded(bytes + [0]) }
            for bit in 0..<(bytes.count * 8) {
                var flipped = bytes
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                if let other = try? decoded(flipped) { #expect(other != reference) }
            }
        }
        var table = encoded(plain)
        table[3] = TableKind.flush.rawValue
        #expect(throws: DecodingError.self, "a table of keys") { try decoded(table) }
        var short = expiring
        short.length = 7
        #expect(throws: DecodingError.self, "no room for the expiry") {
            try decoded(encoded(short))
        }
        var long = plain
        long.length = UInt32(Limits.valueBytesMax) + 9
        #expect(throws: DecodingError.self) { try decoded(encoded(long)) }
    }

    @Test func countersAreSortedAndNotEmpty() throws {
        let files = [1, 2].map { TableID(index: LogIndex($0), kind: .flushBlob, ordinal: 0) }
        func isRefused(_ uses: [BlobUse]) -> Bool {
            var writer = ByteWriter()
            BlobUse.encode(uses, into: &writer)
            return writer.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return (try? BlobUse.decode(&reader)) != uses
            }
        }
        let uses = files.map { BlobUse(file: $0, count: 300, bytes: 1 << 40) }
        #expect(!isRefused([]) && !isRefused(uses))
        #expect(isRefused(uses.reversed()))
        #expect(isRefused([uses[0], uses[0]]))
        #expect(isRefused([BlobUse(file: files[0], count: 0, bytes: 1)]))
        var table = uses[0]
        table.file.kind = .flush
        #expect(isRefused([table]))
    }
}
