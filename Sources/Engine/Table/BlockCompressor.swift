// Compresses the blocks of one file that is being written. It keeps its contexts and its output
// buffer from block to block; one thread. The file's dictionary is trained here, from the first
// blocks, and used only if it pays.

import CLZ4
import CZstd

final class BlockCompressor {
    let compression: Compression
    /// Nil without zstd.
    private let context: OpaquePointer?
    private var dictionary: OpaquePointer?
    private var output = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// A block below this saves nothing worth a decode.
    private static let bytesMin = 64
    /// Above this a dictionary tells a block nothing that it does not tell itself.
    private static let dictionaryBlockBytesMax = 1 << 20
    /// Above this the highest levels would take gigabytes.
    private static let hugeBlockBytes = 8 << 20
    private static let hugeBlockLevelMax = 19
    /// Memory for output that is kept from block to block.
    private static let outputBytesKept = 1 << 20

    init(_ compression: Compression) {
        self.compression = compression
        guard compression.zstdLevel != nil else {
            context = nil
            return
        }
        guard let made = ZSTD_createCCtx() else {
            brokenInvariant("out of memory for a compression context")
        }
        context = made
    }

    deinit {
        ZSTD_freeCCtx(context)
        ZSTD_freeCDict(dictionary)
        output.deallocate()
    }

    /// A block as it is stored, valid until the next call.
    struct Stored {
        var codec: BlockCodec
        var bytes: UnsafeRawBufferPointer
    }

    /// `canonical` as it is stored: itself, if compressing would save less than an eighth.
    func compress(_ type: BlockType, _ canonical: UnsafeRawBufferPointer) -> Stored {
        let limit = canonical.count - canonical.count / 8
        guard canonical.count >= BlockCompressor.bytesMin else {
            return Stored(codec: .none, bytes: canonical)
        }
        let usesDictionary =
            dictionary != nil && type == .data
            && canonical.count <= BlockCompressor.dictionaryBlockBytesMax
        let codec: BlockCodec
        let length: Int?
        switch compression {
        case .none:
            codec = .none
            length = nil
        case .lz4:
            codec = .lz4
            length = lz4(canonical, limit)
        case .zstd(let level), .zstdDictionary(let level):
            codec = usesDictionary ? .zstdDictionary : .zstd
            length = zstd(canonical, limit, level, usesDictionary ? dictionary : nil)
        }
        guard let length else { return Stored(codec: .none, bytes: canonical) }
        return Stored(
            codec: codec, bytes: UnsafeRawBufferPointer(rebasing: output[..<length]))
    }

    private func lz4(_ canonical: UnsafeRawBufferPointer, _ limit: Int) -> Int? {
        guard canonical.count <= Int(LZ4_MAX_INPUT_SIZE) else { return nil }
        reserve(limit)
        let written = LZ4_compress_default(
            canonical.baseAddress?.assumingMemoryBound(to: CChar.self),
            output.baseAddress?.assumingMemoryBound(to: CChar.self),
            Int32(canonical.count), Int32(limit))
        return written > 0 ? Int(written) : nil
    }

    private func zstd(
        _ canonical: UnsafeRawBufferPointer, _ limit: Int, _ level: Int,
        _ dictionary: OpaquePointer?
    ) -> Int? {
        reserve(limit)
        let written: Int
        if let dictionary {
            written = ZSTD_compress_usingCDict(
                context, output.baseAddress, limit, canonical.baseAddress, canonical.count,
                dictionary)
        } else {
            let isHuge = canonical.count > BlockCompressor.hugeBlockBytes
            written = ZSTD_compressCCtx(
                context, output.baseAddress, limit, canonical.baseAddress, canonical.count,
                Int32(isHuge ? min(level, BlockCompressor.hugeBlockLevelMax) : level))
        }
        return ZSTD_isError(written) == 0 ? written : nil
    }

    private func reserve(_ count: Int) {
        if output.count >= count, output.count <= BlockCompressor.outputBytesKept { return }
        if output.count == count { return }
        output.deallocate()
        output = .allocate(byteCount: max(count, 8 << 10), alignment: 16)
    }

    /// Trains a dictionary from the sample and uses it from now on, if it saves more of the sample
    /// than it takes itself. Returns its bytes, which the file must hold.
    func adopt(_ sample: BlockSample) -> [UInt8]? {
        guard let level = compression.zstdLevel, let bytes = sample.train(level: level),
            bytes.withUnsafeBytes({ BlockDictionary($0) }) != nil,
            let made = bytes.withUnsafeBytes({
                ZSTD_createCDict($0.baseAddress, $0.count, Int32(level))
            })
        else { return nil }
        let without = storedBytes(of: sample)
        dictionary = made
        let with = storedBytes(of: sample)
        guard with + bytes.count + TableFormat.blockHeaderBytes < without else {
            dictionary = nil
            ZSTD_freeCDict(made)
            return nil
        }
        return bytes
    }

    private func storedBytes(of sample: BlockSample) -> Int {
        var total = 0
        sample.forEach { canonical, _ in total += compress(.data, canonical).bytes.count }
        return total
    }
}
