// Bytes of the file `state`: four equal copies of one record and two slots of the volatile page,
// each in a sector of its own, 64 KiB apart. docs/formats/state.md has the layout.

/// What a node must never forget: its vote, how far its log was cut, how often it started.
package struct HardStateRecord: Hashable, Sendable {
    package var term = Term.zero
    /// `.none` until this node votes in `term`.
    package var vote = MemberID.none
    /// Counts starts; peers refuse a lower one.
    package var bootCounter: UInt64 = 0
    /// Drawn at each start; tells a clone from its original.
    package var nonce: UInt64 = 0
    /// Frames of the log above `cut` count only if their epoch is at least `epoch`.
    package var cut = LogIndex.zero
    package var cutTerm = Term.zero
    package var epoch: UInt32 = 0
    /// False from the loss of copies 0 and 1 until the cluster admits this node again.
    package var isVoteTrusted = true

    package init() {}
}

/// The unsynced hint of how far the log was durable.
package struct VolatilePage: Hashable, Sendable {
    package var position: Position
    package var epoch: UInt32
    /// The higher of the two slots' counters is the newer page.
    package var counter: UInt64

    package init(position: Position, epoch: UInt32, counter: UInt64) {
        self.position = position
        self.epoch = epoch
        self.counter = counter
    }
}

package enum HardStateFormat {
    package static let sectorBytes = 512
    package static let spacing: UInt64 = 64 << 10
    package static let copies = 4
    package static let pageSlots = 2
    package static let fileBytes = spacing * UInt64(copies + pageSlots - 1) + UInt64(sectorBytes)
    private static let copyMagic: UInt64 = 0x3145_5441_5453_544d  // "MTSTATE1"
    private static let pageMagic: UInt64 = 0x3145_4741_5056_544d  // "MTVPAGE1"
    private static let version: UInt16 = 1
    private static let checksumOffset = sectorBytes - 4
    private static let tagOffset = checksumOffset - FileCipher.tagBytes
    private static let keyOffset = tagOffset - FileKeyHeader.size
    private static let flagsOffset = 10
    /// Magic number, version, flags and counter stay in the clear.
    private static let bodyOffset = 20
    private static let encryptedFlag: UInt8 = 2

    package static func copyOffset(_ copy: Int) -> UInt64 { UInt64(copy) * spacing }
    package static func pageOffset(_ slot: Int) -> UInt64 { UInt64(copies + slot) * spacing }

    /// `counter` grows with every change; the newest valid copy wins.
    package static func encode(
        _ record: HardStateRecord, counter: UInt64, cipher: FileCipher? = nil
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: sectorBytes)
        writer.write(copyMagic)
        writer.write(version)
        writer.write(UInt16(record.isVoteTrusted ? 0 : 1))
        writer.write(counter)
        writer.write(record.term.rawValue)
        writer.write(record.vote.rawValue)
        writer.write(record.bootCounter)
        writer.write(record.nonce)
        writer.write(record.cut.rawValue)
        writer.write(record.cutTerm.rawValue)
        writer.write(record.epoch)
        return sealed(writer, CipherNonce(high: 0, low: counter), cipher)
    }

    package static func decodeCopy(_ bytes: [UInt8]) throws(DecodingError) -> (
        HardStateRecord, UInt64
    ) {
        try opened(bytes, copyMagic) { reader throws(DecodingError) in
            let flags = try reader.read(UInt16.self)
            guard flags <= 1 else { throw DecodingError("state flags \(flags) are unknown") }
            let counter = try reader.read(UInt64.self)
            var record = HardStateRecord()
            record.isVoteTrusted = flags == 0
            record.term = try reader.readTerm()
            record.vote = MemberID(try reader.read(UInt64.self))
            record.bootCounter = try reader.read(UInt64.self)
            record.nonce = try reader.read(UInt64.self)
            record.cut = try reader.readLogIndex()
            record.cutTerm = try reader.readTerm()
            record.epoch = try reader.read(UInt32.self)
            guard counter < .max, record.bootCounter < .max, record.epoch < logEpochLimit
            else { throw DecodingError("a state field is out of range") }
            return (record, counter)
        }
    }

    package static func encode(_ page: VolatilePage, cipher: FileCipher? = nil) -> [UInt8] {
        var writer = ByteWriter(capacity: sectorBytes)
        writer.write(pageMagic)
        writer.write(version)
        writer.write(UInt16(0))
        writer.write(page.counter)
        writer.write(page.epoch)
        writer.write(page.position)
        return sealed(writer, CipherNonce(high: 1, low: page.counter), cipher)
    }

    package static func decodePage(_ bytes: [UInt8]) throws(DecodingError) -> VolatilePage {
        try opened(bytes, pageMagic) { reader throws(DecodingError) in
            let flags = try reader.read(UInt16.self)
            guard flags == 0 else { throw DecodingError("page flags \(flags) are unknown") }
            let counter = try reader.read(UInt64.self)
            let epoch = try reader.read(UInt32.self)
            let position = try reader.readPosition()
            guard counter < .max, epoch < logEpochLimit else {
                throw DecodingError("a page field is out of range")
            }
            return VolatilePage(position: position, epoch: epoch, counter: counter)
        }
    }

    /// Pads to a sector, encrypts it if there is a key, and adds the checksum.
    ///
    /// The four copies of a record are the same bytes. No nonce comes twice: every open takes a
    /// new salt, a counter is used once in it, and a change that fails is the last one.
    private static func sealed(_ body: ByteWriter, _ nonce: CipherNonce, _ cipher: FileCipher?)
        -> [UInt8]
    {
        var writer = body
        let end = cipher == nil ? checksumOffset : keyOffset
        writer.write(raw: [UInt8](repeating: 0, count: end - writer.count))
        if let cipher {
            cipher.header.encode(into: &writer)
            writer.write(Digest128.zero)
            writer.bytes[flagsOffset] |= encryptedFlag
            withParts(&writer.bytes) { authenticated, body, tag in
                cipher.seal(
                    nonce, authenticated: authenticated, UnsafeRawBufferPointer(body),
                    to: body.baseAddress, tag: tag)
            }
        }
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    /// What an encrypted sector consists of; the body is in place.
    private static func withParts<R>(
        _ sector: inout [UInt8],
        _ body: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer, UnsafeMutableRawPointer) ->
            R
    ) -> R {
        let authenticated = Array(sector[..<bodyOffset] + sector[keyOffset..<tagOffset])
        return sector.withUnsafeMutableBytes { raw in
            guard let base = raw.baseAddress else { brokenInvariant("a sector without bytes") }
            return authenticated.withUnsafeBytes {
                body(
                    $0, UnsafeMutableRawBufferPointer(rebasing: raw[bodyOffset..<keyOffset]),
                    base + tagOffset)
            }
        }
    }

    /// Whether a whole sector matches its checksum.
    private static func isSound(_ sector: UnsafeRawBufferPointer) -> Bool {
        let stored = sector.loadUnaligned(fromByteOffset: checksumOffset, as: UInt32.self)
        let checked = UnsafeRawBufferPointer(rebasing: sector[..<checksumOffset])
        return UInt32(littleEndian: stored) == Checksum.crc32c(checked)
    }

    /// The version of a sound sector that this build cannot read; nil for any other.
    static func unsupportedVersion(of sector: [UInt8]) -> UInt16? {
        guard sector.count == sectorBytes else { return nil }
        return sector.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            guard let magic = try? reader.read(UInt64.self),
                magic == copyMagic || magic == pageMagic,
                let found = try? reader.read(UInt16.self), found != version, isSound(raw)
            else { return nil }
            return found
        }
    }

    /// What the sector says of its key; nil if it is plain or damaged.
    static func key(of sector: [UInt8]) -> FileKeyHeader? {
        guard sector.count == sectorBytes, sector[flagsOffset] & encryptedFlag != 0 else {
            return nil
        }
        return sector.withUnsafeBytes { raw in
            guard isSound(raw) else { return nil }
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: raw[keyOffset..<tagOffset]))
            return try? FileKeyHeader(&reader)
        }
    }

    /// The sector as it would be without encryption; nil if it is not authentic.
    static func decrypted(_ sector: [UInt8], _ cipher: FileCipher) -> [UInt8]? {
        var plain = sector
        let isPage = plain.starts(with: withUnsafeBytes(of: pageMagic.littleEndian) { Array($0) })
        let counter = plain.withUnsafeBytes {
            UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 12, as: UInt64.self))
        }
        let nonce = CipherNonce(high: isPage ? 1 : 0, low: counter)
        let isAuthentic = withParts(&plain) { authenticated, body, tag in
            cipher.open(
                nonce, authenticated: authenticated, UnsafeRawBufferPointer(body),
                to: body.baseAddress, tag: tag)
        }
        guard isAuthentic else { return nil }
        plain[flagsOffset] &= ~encryptedFlag
        let zeros = [UInt8](repeating: 0, count: checksumOffset - keyOffset)
        plain.replaceSubrange(keyOffset..<checksumOffset, with: zeros)
        var writer = ByteWriter(capacity: 4)
        writer.write(Checksum.crc32c(Array(plain[..<checksumOffset])))
        plain.replaceSubrange(checksumOffset..., with: writer.bytes)
        return plain
    }

    private static func opened<R>(
        _ bytes: [UInt8], _ magic: UInt64,
        _ body: (inout ByteReader) throws(DecodingError) -> R
    ) throws(DecodingError) -> R {
        guard bytes.count == sectorBytes else { throw DecodingError("ends early") }
        var result: Result<R, DecodingError> = .failure(DecodingError("is empty"))
        bytes.withUnsafeBytes { raw in
            do throws(DecodingError) {
                var reader = ByteReader(raw)
                guard try reader.read(UInt64.self) == magic else {
                    throw DecodingError("wrong magic number")
                }
                guard isSound(raw) else { throw DecodingError("checksum does not match") }
                let version = try reader.read(UInt16.self)
                guard version == HardStateFormat.version else {
                    throw DecodingError("version \(version) is not supported")
                }
                result = .success(try body(&reader))
            } catch { result = .failure(error) }
        }
        return try result.get()
    }
}
