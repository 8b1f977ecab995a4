// Which prefix of a key a prefix filter knows. Pure; part of the logged settings and of every table
// that has such a filter.
//
// The rule that makes filters usable for scans: if a string p has the prefix x, every key that
// begins with p has the prefix x, too. So a scan over keys that begin with p asks for x.

public enum PrefixExtractor: Hashable, Sendable {
    /// No prefix filters.
    case none
    /// The first `length` bytes; shorter keys have no prefix. 1 to 255.
    case fixed(length: UInt8)
    /// Up to and including the `occurrence`-th `byte` (from 1); keys with fewer have no prefix.
    case delimiter(byte: UInt8, occurrence: UInt8)

    /// The length of `key`'s prefix; nil if it has none.
    package func prefixLength(_ key: UnsafeRawBufferPointer) -> Int? {
        switch self {
        case .none: return nil
        case .fixed(let length): return key.count >= Int(length) ? Int(length) : nil
        case .delimiter(let byte, let occurrence):
            var left = occurrence
            for index in 0..<key.count where key[index] == byte {
                left -= 1
                if left == 0 { return index + 1 }
            }
            return nil
        }
    }

    /// The hash of `key`'s prefix; nil if it has none.
    package func prefixHash(_ key: UnsafeRawBufferPointer) -> UInt64? {
        prefixLength(key).map { Checksum.hash64(UnsafeRawBufferPointer(rebasing: key[..<$0])) }
    }

    // MARK: Bytes

    static let encodedBytes = 3

    func encode(into writer: inout ByteWriter) {
        let fields: (UInt8, UInt8, UInt8) =
            switch self {
            case .none: (0, 0, 0)
            case .fixed(let length): (1, length, 0)
            case .delimiter(let byte, let occurrence): (2, byte, occurrence)
            }
        writer.write(fields.0)
        writer.write(fields.1)
        writer.write(fields.2)
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        let kind = try reader.read(UInt8.self)
        let first = try reader.read(UInt8.self)
        let second = try reader.read(UInt8.self)
        switch (kind, first, second) {
        case (0, 0, 0): self = .none
        case (1, 1..., 0): self = .fixed(length: first)
        case (2, _, 1...): self = .delimiter(byte: first, occurrence: second)
        default: throw DecodingError("a prefix extractor")
        }
    }
}

extension KeySpan {
    /// What all keys of the span begin with, as far as its bounds tell.
    package var sharedPrefix: ArraySlice<UInt8> {
        guard let end else { return start.prefix { $0 == 0xff } }
        var common = 0
        while common < min(start.count, end.count), start[common] == end[common] { common += 1 }
        // Where the bounds part, the end may be the very next string: then nothing lies between but
        // what begins as the start does, and goes on with no upper bound.
        guard common + 1 == end.count, common < start.count, start[common] < 0xff,
            end[common] == start[common] + 1
        else { return start[..<common] }
        common += 1
        while common < start.count, start[common] == 0xff { common += 1 }
        return start[..<common]
    }
}
