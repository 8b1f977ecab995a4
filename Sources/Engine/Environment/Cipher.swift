// AES-256-GCM under the key of one file, through libcrypto. Callers give the nonce, which must
// never come twice under one key with different content; each says in its place why it cannot.
//
// Contexts hold the expanded key and are kept: sealing or opening costs no allocation and no key
// schedule, only a new nonce. A file has one writer, hence one context that seals; there are as
// many that open as threads read the file at the same time.
import CCrypto

/// 96 bits: four bytes and eight, little-endian.
package struct CipherNonce: Hashable, Sendable {
    package var high: UInt32
    package var low: UInt64

    package init(high: UInt32, low: UInt64) {
        self.high = high
        self.low = low
    }
}

package final class FileCipher: @unchecked Sendable {
    // Unchecked: the key is written in init and deinit only; `openers` is touched under `lock`, the
    // sealers by whoever writes the file, one thread at a time.
    package typealias Observer = @Sendable (FileKeyHeader.Salt, CipherNonce, Digest128) -> Void

    /// For the header of the file.
    package let header: FileKeyHeader
    private let key = UnsafeMutablePointer<UInt8>.allocate(capacity: FileCipher.derivedBytes)
    private let observer: Observer?
    private let lock = PlainLock()
    private var sealer: OpaquePointer?
    /// For messages of a few hundred bytes, as those of the log are.
    private var smallSealer: UnsafeMutablePointer<martlet_gcm_small>?
    private var openers: [OpaquePointer] = []

    package static let tagBytes = 16
    private static let keyBytes = 32
    /// The key and the check value.
    private static let derivedBytes = 48

    /// libcrypto's implementation: looking it up costs more than sealing a block.
    private nonisolated(unsafe) static let algorithm: OpaquePointer = {
        guard let found = martlet_gcm_fetch() else {
            brokenInvariant("this libcrypto has no AES-256-GCM")
        }
        return found
    }()

    private nonisolated(unsafe) static let blockAlgorithm: OpaquePointer = {
        guard let found = martlet_ecb_fetch() else {
            brokenInvariant("this libcrypto has no AES-256-ECB")
        }
        return found
    }()

    init(
        _ nodeKey: EncryptionKey, epoch: UInt32, salt: FileKeyHeader.Salt,
        _ purpose: KeyRing.Purpose, _ observer: Observer?
    ) {
        self.observer = observer
        var writer = ByteWriter(capacity: 32)
        var header = FileKeyHeader(epoch: epoch, salt: salt, check: .zero)
        header.encodeSalt(into: &writer)
        let info = "martlet " + purpose.rawValue
        let done = martlet_hkdf_sha256(
            nodeKey.bytes, nodeKey.bytes.count, writer.bytes, writer.bytes.count,
            info, info.utf8.count, key, FileCipher.derivedBytes)
        guard done == 1 else { brokenInvariant("libcrypto refused to derive a key") }
        let check = UnsafeRawPointer(key + FileCipher.keyBytes)
        header.check = Digest128(
            low: UInt64(littleEndian: check.loadUnaligned(as: UInt64.self)),
            high: UInt64(littleEndian: check.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        self.header = header
    }

    deinit {
        for context in openers { EVP_CIPHER_CTX_free(context) }
        EVP_CIPHER_CTX_free(sealer)
        martlet_gcm_small_free(smallSealer)
        OPENSSL_cleanse(key, FileCipher.derivedBytes)
        key.deallocate()
    }

    // MARK: - Contexts

    private func makeContext(seals: Bool) -> OpaquePointer {
        guard let made = martlet_gcm_context(FileCipher.algorithm, key, seals ? 1 : 0) else {
            brokenInvariant("libcrypto refused to make a context")
        }
        return made
    }

    private var theSealer: OpaquePointer {
        if let sealer { return sealer }
        let made = makeContext(seals: true)
        sealer = made
        return made
    }

    private var theSmallSealer: UnsafeMutablePointer<martlet_gcm_small> {
        if let smallSealer { return smallSealer }
        guard let made = martlet_gcm_small_new(FileCipher.blockAlgorithm, key) else {
            brokenInvariant("libcrypto refused to make a context")
        }
        smallSealer = made
        return made
    }

    private func takeOpener() -> OpaquePointer {
        lock.lock()
        let kept = openers.popLast()
        lock.unlock()
        return kept ?? makeContext(seals: false)
    }

    private func give(_ opener: OpaquePointer) {
        lock.lock()
        openers.append(opener)
        lock.unlock()
    }

    // MARK: - Messages

    /// Encrypts `head` in place and `body` to `target`, which may be the same place, as one
    /// message; writes the tag over both and `authenticated` to `tag`. Of the file's writer only.
    package func seal(
        _ nonce: CipherNonce, authenticated: UnsafeRawBufferPointer,
        head: UnsafeMutableRawBufferPointer = .empty, _ body: UnsafeRawBufferPointer,
        to target: UnsafeMutableRawPointer?, tag: UnsafeMutableRawPointer
    ) {
        observer?(
            header.salt, nonce, FileCipher.content(authenticated, head, body))
        let isSmall = head.isEmpty && body.count <= Int(MARTLET_GCM_SMALL_BYTES)
        let done = FileCipher.withMessage(nonce, authenticated, head, body, target) {
            let tag = tag.assumingMemoryBound(to: UInt8.self)
            return isSmall
                ? martlet_gcm_small_seal(theSmallSealer, $0, tag)
                : martlet_gcm_seal(theSealer, $0, tag)
        }
        guard done == 1 else { brokenInvariant("libcrypto refused to seal") }
    }

    /// Decrypts likewise. False if the tag does not hold; the plain bytes are written all the same,
    /// so that the caller can tell tampering from rot.
    package func open(
        _ nonce: CipherNonce, authenticated: UnsafeRawBufferPointer,
        head: UnsafeMutableRawBufferPointer = .empty, _ body: UnsafeRawBufferPointer,
        to target: UnsafeMutableRawPointer?, tag: UnsafeRawPointer
    ) -> Bool {
        let context = takeOpener()
        let done = FileCipher.withMessage(nonce, authenticated, head, body, target) {
            martlet_gcm_open(context, $0, tag.assumingMemoryBound(to: UInt8.self))
        }
        give(context)
        return done == 1
    }

    @inline(__always)
    private static func withMessage(
        _ nonce: CipherNonce, _ authenticated: UnsafeRawBufferPointer,
        _ head: UnsafeMutableRawBufferPointer, _ body: UnsafeRawBufferPointer,
        _ target: UnsafeMutableRawPointer?,
        _ run: (UnsafePointer<martlet_gcm_message>) -> Int32
    ) -> Int32 {
        invariant(
            body.count <= Int(Int32.max) && (body.isEmpty || target != nil),
            "a message that libcrypto cannot take at once")
        return withUnsafeTemporaryAllocation(byteCount: 12, alignment: 4) { bytes in
            bytes.storeBytes(of: nonce.high.littleEndian, as: UInt32.self)
            bytes.storeBytes(of: nonce.low.littleEndian, toByteOffset: 4, as: UInt64.self)
            var message = martlet_gcm_message(
                nonce: UnsafeRawPointer(bytes.baseAddress)?.assumingMemoryBound(to: UInt8.self),
                authenticated: authenticated.baseAddress?.assumingMemoryBound(to: UInt8.self),
                authenticated_count: authenticated.count,
                head: head.baseAddress?.assumingMemoryBound(to: UInt8.self),
                head_count: head.count,
                from: body.baseAddress?.assumingMemoryBound(to: UInt8.self),
                to: target?.assumingMemoryBound(to: UInt8.self), count: body.count)
            return run(&message)
        }
    }

    /// Names what was sealed, for the observer.
    private static func content(
        _ authenticated: UnsafeRawBufferPointer, _ head: UnsafeMutableRawBufferPointer,
        _ body: UnsafeRawBufferPointer
    ) -> Digest128 {
        Digest128(of: [UInt8](authenticated) + [UInt8](head) + [UInt8](body))
    }
}

extension UnsafeMutableRawBufferPointer {
    package static var empty: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }
}
