// The frame around an entry in a segment file: local to this node, never shipped, never hashed. It
// says in which epoch the entry was written and what this node had durable then, so that recovery
// can tell stale entries from live ones and torn ones from rotten ones. docs/formats/log.md has the
// layout.
//
// The checksum covers the frame header alone (the entry has its own) and is seeded by the place, so
// a frame of a recycled file, a misdirected write or a copy inside a value never passes for one.

package struct LogFrame: Hashable, Sendable {
    package static let size = 48
    package static let format: UInt16 = 1
    /// Every group that is synced starts on such a boundary.
    package static let groupAlignment: UInt64 = 512
    package static let entryBytesMax = EntryHeader.size + Limits.entryPayloadBytes

    package var epoch: UInt32
    /// Bytes of the entry that follows.
    package var length: UInt32
    /// The last entry that a returned sync covered when this frame was written.
    package var durableTerm: Term
    package var durableIndex: LogIndex
    /// The entry is encrypted; `tag` is then its authentication.
    package private(set) var isEncrypted = false
    private var tag = Digest128.zero

    /// Where a frame stands: its segment's first index and its offset in the file.
    package struct Place {
        package var first: LogIndex
        package var offset: UInt64

        package init(first: LogIndex, offset: UInt64) {
            self.first = first
            self.offset = offset
        }

        var seed: UInt32 {
            withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { bytes in
                bytes.storeBytes(of: first.rawValue.littleEndian, toByteOffset: 0, as: UInt64.self)
                bytes.storeBytes(of: offset.littleEndian, toByteOffset: 8, as: UInt64.self)
                return Checksum.crc32c(UnsafeRawBufferPointer(bytes))
            }
        }
    }

    /// Writes `size` bytes.
    package func encode(into bytes: UnsafeMutableRawBufferPointer, at place: Place) {
        encodeFields(into: bytes)
        bytes.storeBytes(of: tag.low.littleEndian, toByteOffset: 32, as: UInt64.self)
        bytes.storeBytes(of: tag.high.littleEndian, toByteOffset: 40, as: UInt64.self)
        let checksum = LogFrame.checksum(UnsafeRawBufferPointer(bytes), place)
        bytes.storeBytes(of: checksum.littleEndian, toByteOffset: 0, as: UInt32.self)
    }

    /// Bytes 4 to 31.
    private func encodeFields(into bytes: UnsafeMutableRawBufferPointer) {
        bytes.storeBytes(of: epoch.littleEndian, toByteOffset: 4, as: UInt32.self)
        bytes.storeBytes(of: length.littleEndian, toByteOffset: 8, as: UInt32.self)
        let flags: UInt16 = isEncrypted ? 1 : 0
        bytes.storeBytes(of: flags.littleEndian, toByteOffset: 12, as: UInt16.self)
        bytes.storeBytes(of: LogFrame.format.littleEndian, toByteOffset: 14, as: UInt16.self)
        let term = durableTerm.rawValue.littleEndian
        bytes.storeBytes(of: term, toByteOffset: 16, as: UInt64.self)
        let index = durableIndex.rawValue.littleEndian
        bytes.storeBytes(of: index, toByteOffset: 24, as: UInt64.self)
    }

    /// Nil if the bytes are not a frame written at this place.
    package init?(decoding bytes: UnsafeRawBufferPointer, at place: Place) {
        guard bytes.count >= LogFrame.size else { return nil }
        length = LogFrame.load(bytes, 8, UInt32.self)
        // Cheap refusals first: recovery probes every boundary of a mostly empty file.
        guard length >= UInt32(EntryHeader.size), length <= UInt32(LogFrame.entryBytesMax) else {
            return nil
        }
        let flags = LogFrame.load(bytes, 12, UInt16.self)
        let format = LogFrame.load(bytes, 14, UInt16.self)
        guard flags <= 1, format == LogFrame.format else { return nil }
        let stored = LogFrame.load(bytes, 0, UInt32.self)
        guard LogFrame.checksum(bytes, place) == stored else { return nil }
        epoch = LogFrame.load(bytes, 4, UInt32.self)
        guard epoch < logEpochLimit else { return nil }
        durableTerm = Term(LogFrame.load(bytes, 16, UInt64.self))
        durableIndex = LogIndex(LogFrame.load(bytes, 24, UInt64.self))
        guard durableTerm < Term.limit, durableIndex < LogIndex.limit else { return nil }
        isEncrypted = flags == 1
        tag = Digest128(
            low: LogFrame.load(bytes, 32, UInt64.self), high: LogFrame.load(bytes, 40, UInt64.self))
    }

    // MARK: Encryption

    /// Encrypts `entry` to `body`, which is as long, and completes the frame.
    ///
    /// The nonce is (epoch, offset of the frame). It never comes twice in a file: an epoch only
    /// moves forward in it, whatever goes back raises the epoch first, and a file that is used
    /// anew, or written anew, gets a header with another salt.
    mutating func seal(
        _ entry: UnsafeRawBufferPointer, to body: UnsafeMutableRawBufferPointer, at place: Place,
        _ cipher: FileCipher
    ) {
        isEncrypted = true
        var words = (UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &words) { tag in
            withAuthenticated(place) { authenticated in
                guard let tag = tag.baseAddress else { return }
                cipher.seal(
                    nonce(place), authenticated: authenticated, entry, to: body.baseAddress,
                    tag: tag)
            }
        }
        tag = Digest128(
            low: UInt64(littleEndian: words.0), high: UInt64(littleEndian: words.1))
    }

    /// Decrypts the entry; false if it is not authentic. What of it there is in `body` is decrypted
    /// all the same.
    func open(
        _ body: UnsafeRawBufferPointer, to target: UnsafeMutableRawBufferPointer,
        at place: Place, _ cipher: FileCipher
    ) -> Bool {
        withUnsafeBytes(of: (tag.low.littleEndian, tag.high.littleEndian)) { tag in
            withAuthenticated(place) { authenticated in
                guard let tag = tag.baseAddress else { return false }
                return cipher.open(
                    nonce(place), authenticated: authenticated, body, to: target.baseAddress,
                    tag: tag)
            }
        }
    }

    private func nonce(_ place: Place) -> CipherNonce {
        CipherNonce(high: epoch, low: place.offset)
    }

    /// Bytes 4 to 31 of the frame and its place.
    private func withAuthenticated<R>(
        _ place: Place, _ body: (UnsafeRawBufferPointer) -> R
    ) -> R {
        withUnsafeTemporaryAllocation(byteCount: LogFrame.size, alignment: 8) { bytes in
            encodeFields(into: bytes)
            let first = place.first.rawValue.littleEndian
            bytes.storeBytes(of: first, toByteOffset: 32, as: UInt64.self)
            bytes.storeBytes(of: place.offset.littleEndian, toByteOffset: 40, as: UInt64.self)
            return body(UnsafeRawBufferPointer(rebasing: bytes[4..<LogFrame.size]))
        }
    }

    package init(epoch: UInt32, length: UInt32, durableTerm: Term, durableIndex: LogIndex) {
        self.epoch = epoch
        self.length = length
        self.durableTerm = durableTerm
        self.durableIndex = durableIndex
    }

    private static func checksum(_ bytes: UnsafeRawBufferPointer, _ place: Place) -> UInt32 {
        Checksum.crc32c(UnsafeRawBufferPointer(rebasing: bytes[4..<size]), seed: place.seed)
    }

    private static func load<T: FixedWidthInteger>(
        _ bytes: UnsafeRawBufferPointer, _ offset: Int, _ type: T.Type
    ) -> T {
        T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}

/// The next multiple of the group alignment at or above `offset`.
@inline(__always)
func alignedToGroup(_ offset: UInt64) -> UInt64 {
    (offset &+ (LogFrame.groupAlignment - 1)) & ~(LogFrame.groupAlignment - 1)
}

/// Epochs at or above this are never used.
let logEpochLimit: UInt32 = 1 << 31

/// Runs file operations where engine errors are thrown.
func logIO<R>(_ body: () throws(FileError) -> R) throws(EngineError) -> R {
    do throws(FileError) { return try body() } catch { throw .file(error) }
}
