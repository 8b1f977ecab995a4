// The order that filters are built in: sorted, each hash once, whatever the hashes.

import Engine
import Testing

@Suite struct HashOrderTests {
    private func sorted(_ hashes: [UInt64], inPlace: Bool) -> [UInt64] {
        var keys = inPlace ? hashes : [UInt64](repeating: 0, count: hashes.count)
        var spare = [UInt64](repeating: 0, count: hashes.count)
        let count = hashes.withUnsafeBufferPointer { source in
            keys.withUnsafeMutableBufferPointer { keys in
                spare.withUnsafeMutableBufferPointer { spare -> Int in
                    guard let source = source.baseAddress, let keys = keys.baseAddress,
                        let spare = spare.baseAddress
                    else { return 0 }
                    return HashOrder.sort(
                        inPlace ? UnsafePointer(keys) : source, into: keys, spare,
                        count: hashes.count)
                }
            }
        }
        return Array(keys[..<count])
    }

    @Test(arguments: [0, 1, 2, 255, 256, 257, 2048, 30_000])
    func `Any hashes come out sorted and without doubles`(count: Int) {
        var random = TableTestRandom(seed: UInt64(count))
        let sets: [[UInt64]] = [
            (0..<count).map { _ in random.next() },
            (0..<count).map { _ in random.next() >> 40 },
            (0..<count).map { _ in random.next() & 0xff },
            (0..<count).map { _ in random.next() | 0xffff_ffff_fff0_0000 },
            (0..<count).map { UInt64(count - $0) },
            (0..<count).map { UInt64(count - $0) << 32 },
        ]
        for hashes in sets {
            let expected = Set(hashes).sorted()
            #expect(sorted(hashes, inPlace: false) == expected)
            #expect(sorted(hashes, inPlace: true) == expected)
        }
    }
}
