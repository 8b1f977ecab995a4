// Small readers and writers that the message codecs share.
import Engine

extension ByteWriter {
    /// An index, term, round or clock.
    mutating func writeNumber(_ value: UInt64) throws(UnsendableMessage) {
        guard value < MessageCodec.numberLimit else {
            throw UnsendableMessage("the number \(value) is above the protocol's range")
        }
        write(value)
    }

    mutating func writeFlag(_ flag: Bool) { write(UInt8(flag ? 1 : 0)) }

    /// u16 length and UTF-8, cut at a character if it is longer than `limit` bytes.
    mutating func writeText(_ text: String, atMost limit: Int) {
        var room = limit
        let kept = text.prefix { character in
            room -= character.utf8.count
            return room >= 0
        }
        write(UInt16(kept.utf8.count))
        write(raw: [UInt8](kept.utf8))
    }
}

extension ByteReader {
    mutating func readNumber() throws(DecodingError) -> UInt64 {
        let value = try read(UInt64.self)
        guard value < MessageCodec.numberLimit else {
            throw DecodingError("the number \(value) is above the protocol's range")
        }
        return value
    }

    /// A u32 count of items that take at least `itemBytes` each.
    mutating func readCount(itemBytes: Int, _ what: String) throws(DecodingError) -> Int {
        let count = Int(try read(UInt32.self))
        guard count <= remaining / itemBytes else {
            throw DecodingError("\(count) \(what) do not fit in \(remaining) bytes")
        }
        return count
    }

    mutating func readText(atMost limit: Int) throws(DecodingError) -> String {
        let count = Int(try read(UInt16.self))
        guard count <= limit else { throw DecodingError("a text of \(count) bytes") }
        guard let text = String(validating: try readBytes(count), as: UTF8.self) else {
            throw DecodingError("text is not UTF-8")
        }
        return text
    }

    /// Everything that is left, copied.
    mutating func readRest() throws(DecodingError) -> [UInt8] { [UInt8](try readBytes(remaining)) }
}
