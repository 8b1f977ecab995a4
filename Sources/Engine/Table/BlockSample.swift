// The first data blocks of a file that is being written, held back until a dictionary can be
// trained from them. Bounded, whatever the blocks are like.

import CZstd

struct BlockSample {
    /// Enough for a dictionary of the largest size; more makes it no better.
    static let bytesMax = 1 << 20
    /// From the smallest that the library makes to what is worth its memory in each open table:
    /// more gains next to nothing.
    private static let dictionaryBytesRange = Int(ZDICT_DICTSIZE_MIN)...16 << 10
    /// Bytes of sample for each byte of dictionary, within the range.
    private static let sampleRatio = 16
    private static let blocksMin = 8

    private(set) var bytes: [UInt8] = []
    private var lengths: [Int] = []
    private var digests: [Digest128] = []

    var count: Int { lengths.count }

    /// Whether a block of `length` bytes still belongs to the sample.
    func takes(_ length: Int) -> Bool { length <= BlockSample.bytesMax - bytes.count }

    mutating func add(_ canonical: UnsafeRawBufferPointer, _ digest: Digest128) {
        bytes.append(contentsOf: canonical)
        lengths.append(canonical.count)
        digests.append(digest)
    }

    /// The blocks in order.
    func forEach<Failure: Error>(
        _ body: (UnsafeRawBufferPointer, Digest128) throws(Failure) -> Void
    ) throws(Failure) {
        try bytes.span.bytes.withUnsafeBytes { all throws(Failure) in
            var offset = 0
            for (length, digest) in zip(lengths, digests) {
                let end = offset + length
                try body(UnsafeRawBufferPointer(rebasing: all[offset..<end]), digest)
                offset = end
            }
        }
    }

    /// A dictionary for blocks like these, to be used at `level`; nil if they are too few or have
    /// nothing in common.
    func train(level: Int) -> [UInt8]? {
        let range = BlockSample.dictionaryBytesRange
        guard count >= BlockSample.blocksMin, bytes.count >= 4 * range.lowerBound else {
            return nil
        }
        let wanted = bytes.count / BlockSample.sampleRatio
        let capacity = min(max(wanted, range.lowerBound), range.upperBound)
        var dictionary = [UInt8](repeating: 0, count: capacity)
        let segment = min(capacity / 4, 1 << 10)
        let length = dictionary.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { samples in
                martlet_zdict_train(
                    target.baseAddress, capacity, samples.baseAddress, lengths,
                    UInt32(count), UInt32(segment), Int32(level))
            }
        }
        guard ZDICT_isError(length) == 0, length <= capacity else { return nil }
        dictionary.removeLast(capacity - length)
        return dictionary
    }
}
