// Decodes zstd frames with one context a thread, made when the thread first decodes and freed with
// it: reading a block allocates nothing here. The context needs no window of its own, since it
// decodes into the whole target at once, so a frame's claims about sizes cost no memory.

import CZstd

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum ZstdDecoder {
    /// Thread-specific slot of the context.
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let failure = pthread_key_create(&key) { context in
            _ = ZSTD_freeDCtx(OpaquePointer(context))
        }
        invariant(failure == 0, "no thread-specific slot is left: error \(failure)")
        return key
    }()

    private static var context: OpaquePointer {
        if let context = pthread_getspecific(key) { return OpaquePointer(context) }
        guard let context = ZSTD_createDCtx() else {
            brokenInvariant("out of memory for a decompression context")
        }
        pthread_setspecific(key, UnsafeRawPointer(context))
        return context
    }

    /// Decodes `stored`, which must be one frame of today's format that says how long its content
    /// is, into exactly `target`. The library itself would also take several frames, frames to be
    /// skipped, and those of old formats.
    static func decode(
        _ stored: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
        dictionary: BlockDictionary?
    ) -> Bool {
        guard stored.count >= 4,
            stored.loadUnaligned(as: UInt32.self) == UInt32(ZSTD_MAGICNUMBER).littleEndian,
            ZSTD_getFrameContentSize(stored.baseAddress, stored.count) == UInt64(target.count),
            ZSTD_findFrameCompressedSize(stored.baseAddress, stored.count) == stored.count
        else { return false }
        let written: Int
        if let dictionary {
            written = ZSTD_decompress_usingDDict(
                context, target.baseAddress, target.count, stored.baseAddress, stored.count,
                dictionary.decoder)
        } else {
            written = ZSTD_decompressDCtx(
                context, target.baseAddress, target.count, stored.baseAddress, stored.count)
        }
        // An error is a size that no target has.
        return written == target.count
    }
}
