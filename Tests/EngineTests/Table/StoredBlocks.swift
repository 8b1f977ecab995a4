// A table file taken apart into what is stored, for tests that put other bytes behind right
// checksums; and tables that compress.
import Engine

extension Compression {
    /// One of each codec.
    static let ofEachCodec: [Compression] = [
        .none, .lz4, .zstd(level: 3), .zstdDictionary(level: 3),
    ]
}

/// Put together again it has no block map and no footer: a reader walks the headers.
struct StoredBlocks {
    struct Block {
        var header: [UInt8]
        var stored: [UInt8]

        var type: UInt8 { header[4] }
        var codec: UInt8 {
            get { header[5] }
            set { header[5] = newValue }
        }
        var isDictionary: Bool { type == 64 }

        mutating func set(_ offset: Int, _ value: UInt32) {
            header.replaceSubrange(
                offset..<offset + 4, with: withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) })
        }

        /// With the checksums that belong to it.
        var bytes: [UInt8] {
            var copy = self
            copy.set(32, UInt32(stored.count))
            copy.set(36, Checksum.crc32c(stored))
            copy.set(76, Checksum.crc32c([UInt8](copy.header[..<76])))
            return copy.header + stored
        }
    }

    private let fileHeader: [UInt8]
    var blocks: [Block] = []

    init(_ file: [UInt8]) {
        fileHeader = [UInt8](file[..<128])
        var at = 128
        while at + 80 <= file.count, file[at..<at + 4].elementsEqual("MLTB".utf8) {
            let length = file[at + 32..<at + 36].reversed().reduce(0) { $0 << 8 | Int($1) }
            blocks.append(
                Block(
                    header: [UInt8](file[at..<at + 80]),
                    stored: [UInt8](file[at + 80..<at + 80 + length])))
            at += 80 + length
        }
    }

    var dictionary: Block? { blocks.first.flatMap { $0.isDictionary ? $0 : nil } }
    /// Place of the first data block.
    var firstData: Int { dictionary == nil ? 0 : 1 }
    var bytes: [UInt8] { fileHeader + blocks.flatMap(\.bytes) }
}

extension TestModel {
    /// Versions that are alike, as records of one application are.
    static func records(_ count: Int, seed: UInt64 = 1) -> TestModel {
        var random = TableTestRandom(seed: seed)
        let states = ["active", "pending", "closed", "archived"]
        return TestModel(
            (0..<count).map { number in
                let user = random.below(100_000)
                let text =
                    "{\"id\":\(number),\"user\":\"user\(user)\",\"mail\":\"user\(user)@example.com\","
                    + "\"state\":\"\(states[random.below(4)])\",\"balance\":\(random.below(10_000))}"
                return TestEntry(
                    key: [UInt8]("record:\(1_000_000 + number)".utf8),
                    trailer: Trailer(SequenceNumber(UInt64(number) + 1), .put),
                    value: [UInt8](text.utf8))
            })
    }
}
