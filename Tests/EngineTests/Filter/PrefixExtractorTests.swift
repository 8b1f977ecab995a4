// Prefixes of keys and of spans, against brute force over all short keys.

import Engine
import Testing

@Suite struct PrefixExtractorTests {
    private static let extractors: [PrefixExtractor] = [
        .none, .fixed(length: 1), .fixed(length: 3), .delimiter(byte: 1, occurrence: 1),
        .delimiter(byte: 1, occurrence: 2), .delimiter(byte: 0xff, occurrence: 1),
    ]

    /// All keys of up to `length` bytes out of 0, 1, 0xfe and 0xff.
    private static func keys(_ length: Int) -> [[UInt8]] {
        guard length > 0 else { return [[]] }
        let shorter = keys(length - 1)
        let longest = shorter.filter { $0.count == length - 1 }
        return shorter + longest.flatMap { key in [0, 1, 0xfe, 0xff].map { key + [$0] } }
    }

    private func prefix(_ extractor: PrefixExtractor, _ key: [UInt8]) -> [UInt8]? {
        key.withUnsafeBytes { extractor.prefixLength($0) }.map { Array(key[..<$0]) }
    }

    @Test func `Prefixes are what they say`() {
        let path = bytes("a/b/c")
        #expect(prefix(.none, path) == nil)
        #expect(prefix(.fixed(length: 3), path) == bytes("a/b"))
        #expect(prefix(.fixed(length: 5), path) == path)
        #expect(prefix(.fixed(length: 6), path) == nil)
        #expect(prefix(.delimiter(byte: 0x2f, occurrence: 1), path) == bytes("a/"))
        #expect(prefix(.delimiter(byte: 0x2f, occurrence: 2), path) == bytes("a/b/"))
        #expect(prefix(.delimiter(byte: 0x2f, occurrence: 3), path) == nil)
    }

    @Test func `What begins alike has the same prefix`() {
        let keys = Self.keys(4)
        for extractor in Self.extractors {
            for key in keys {
                for length in 0...key.count {
                    guard let known = prefix(extractor, Array(key[..<length])) else { continue }
                    #expect(prefix(extractor, key) == known)
                }
            }
        }
    }

    @Test func `All keys of a span share its prefix`() {
        let keys = Self.keys(3)
        let longer = Self.keys(4)
        for start in keys {
            for end in keys.map({ Optional($0) }) + [nil] {
                let span = KeySpan(start: start, end: end)
                guard !span.isEmpty else { continue }
                let shared = span.sharedPrefix
                let inside = longer.filter { span.contains($0) }
                #expect(inside.allSatisfy { $0.starts(with: shared) }, "\(span)")
            }
        }
    }

    @Test func `The span of a prefix holds what begins with it and shares it`() {
        let keys = Self.keys(4)
        for prefix in Self.keys(2) {
            let span = KeySpan.prefix(prefix)
            for key in keys { #expect(span.contains(key) == key.starts(with: prefix)) }
            #expect(Array(span.sharedPrefix) == prefix)
        }
    }
}
