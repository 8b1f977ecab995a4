// Framing of one copy of the manifest file: a header, then records, each of which carries the
// checksum of the one before. Pure bytes; `ManifestFile` owns the files. The two copies of a
// manifest are identical byte for byte, so `ManifestChain` walks both at once and takes each record
// from whichever copy holds it intact. Layout: docs/formats/manifest.md.

/// Whose manifest it is. Another's is refused, not repaired.
package struct ManifestIdentity: Hashable, Sendable {
    /// Hash of cluster and group id: what the log's first entry holds as `previous`.
    package var genesis: Digest128
    package var group: UInt32
    package var node: MemberID

    package init(genesis: Digest128, group: UInt32, node: MemberID) {
        self.genesis = genesis
        self.group = group
        self.node = node
    }
}

struct ManifestHeader: Hashable {
    var identity: ManifestIdentity
    /// The n of MANIFEST-n.
    var number: UInt64
    /// Of the key that encrypts the payloads; nil if they are plain.
    var key: FileKeyHeader?

    static let plainSize = 64
    static let encryptedSize = 128
    static let plainVersion: UInt16 = 1
    static let encryptedVersion: UInt16 = 2
    private static let magic: UInt64 = 0x5446_4e4d_4c54_524d  // "MRTLMNFT"

    enum Finding: Hashable {
        case valid(ManifestHeader, checksum: Digest128)
        case damaged
        /// Intact, but of a format that this build does not read.
        case unsupported(UInt16)
    }

    func encoded() -> (bytes: [UInt8], checksum: Digest128) {
        var writer = ByteWriter(capacity: ManifestHeader.encryptedSize)
        writer.write(ManifestHeader.magic)
        writer.write(
            key == nil ? ManifestHeader.plainVersion : ManifestHeader.encryptedVersion)
        writer.write(UInt16(0))
        writer.write(identity.group)
        writer.write(number)
        writer.write(identity.genesis)
        writer.write(identity.node.rawValue)
        if let key {
            key.encode(into: &writer)
            let padding = ManifestHeader.encryptedSize - 16 - writer.count
            writer.write(raw: [UInt8](repeating: 0, count: padding))
        }
        let checksum = Digest128(of: writer.bytes)
        writer.write(checksum)
        return (writer.bytes, checksum)
    }

    static func find(in bytes: UnsafeRawBufferPointer) -> Finding {
        guard bytes.count >= plainSize else { return .damaged }
        do throws(DecodingError) {
            var reader = ByteReader(bytes)
            guard try reader.read(UInt64.self) == magic else { return .damaged }
            let version = try reader.read(UInt16.self)
            let zero = try reader.read(UInt16.self)
            let group = try reader.read(UInt32.self)
            let number = try reader.read(UInt64.self)
            let genesis = try reader.readDigest()
            let node = MemberID(try reader.read(UInt64.self))
            var key: FileKeyHeader?
            if version == encryptedVersion, bytes.count >= encryptedSize {
                key = try FileKeyHeader(&reader)
                _ = try reader.readBytes(encryptedSize - 16 - reader.offset)
            }
            let covered = UnsafeRawBufferPointer(rebasing: bytes[..<reader.offset])
            let checksum = try reader.readDigest()
            guard checksum == Digest128(of: covered) else { return .damaged }
            guard version == plainVersion || key != nil, zero == 0 else {
                return .unsupported(version)
            }
            let identity = ManifestIdentity(genesis: genesis, group: group, node: node)
            return .valid(
                ManifestHeader(identity: identity, number: number, key: key), checksum: checksum)
        } catch { return .damaged }
    }
}

/// One record: the whole state, or edits to it.
struct ManifestRecord: Hashable {
    enum Kind: UInt8 {
        case snapshot = 1
        case edits = 2
    }

    /// Counts the records of edits in all manifests of a node; a snapshot bears that of the last
    /// one that it includes. So of two manifests the one that goes further is known.
    var ordinal: UInt64
    var kind: Kind
    var previous: Digest128
    var checksum: Digest128
    /// With the ordinal the nonce of an encrypted payload; 0 in a plain manifest.
    var session: UInt32
    /// In the file.
    var range: Range<Int>

    static let headerSize = 56
    static let version: UInt16 = 1
    static let magic: UInt32 = 0x4345_524d  // "MREC"
    private static let magicOffset = 32

    var payload: Range<Int> { (range.lowerBound + ManifestRecord.headerSize)..<range.upperBound }

    /// With a `cipher` the payload on disk is the encrypted one, followed by its tag.
    ///
    /// No nonce comes twice under one key: ordinals only grow in a file; what is written in place
    /// of a record that failed or was torn has the same ordinal, and another session.
    static func encoded(
        _ kind: Kind, ordinal: UInt64, previous: Digest128, payload: [UInt8],
        cipher: FileCipher? = nil, session: UInt32 = 0
    ) -> (bytes: [UInt8], checksum: Digest128) {
        let length = payload.count + (cipher == nil ? 0 : FileCipher.tagBytes)
        var writer = ByteWriter(capacity: headerSize + payload.count)
        writer.write(Digest128.zero)
        writer.write(previous)
        writer.write(magic)
        writer.write(UInt32(length))
        writer.write(ordinal)
        writer.write(kind.rawValue)
        writer.write(UInt8(0))
        writer.write(version)
        writer.write(cipher == nil ? 0 : session)
        writer.write(raw: payload)
        if let cipher {
            writer.write(Digest128.zero)
            writer.bytes.withUnsafeMutableBytes { raw in
                let head = UnsafeRawBufferPointer(rebasing: raw[16..<headerSize])
                let body = UnsafeMutableRawBufferPointer(
                    rebasing: raw[headerSize..<(headerSize + payload.count)])
                let tail = UnsafeMutableRawBufferPointer(
                    rebasing: raw[(headerSize + payload.count)...])
                guard let tag = tail.baseAddress else { return }
                cipher.seal(
                    CipherNonce(high: session, low: ordinal), authenticated: head,
                    UnsafeRawBufferPointer(body), to: body.baseAddress, tag: tag)
            }
        }
        let checksum = writer.bytes.withUnsafeBytes {
            Digest128(of: UnsafeRawBufferPointer(rebasing: $0[16...]))
        }
        var head = ByteWriter(capacity: 16)
        head.write(checksum)
        writer.bytes.replaceSubrange(0..<16, with: head.bytes)
        return (writer.bytes, checksum)
    }

    /// The record at `offset`; nil if there is none whose checksum holds.
    init?(in bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard offset >= 0, offset <= bytes.count else { return nil }
        do throws(DecodingError) {
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            checksum = try reader.readDigest()
            previous = try reader.readDigest()
            guard try reader.read(UInt32.self) == ManifestRecord.magic else { return nil }
            let length = Int(try reader.read(UInt32.self))
            ordinal = try reader.read(UInt64.self)
            let rawKind = try reader.read(UInt8.self)
            let zero = try reader.read(UInt8.self)
            let version = try reader.read(UInt16.self)
            session = try reader.read(UInt32.self)
            guard reader.remaining >= length else { return nil }
            let end = offset + ManifestRecord.headerSize + length
            let sealed = UnsafeRawBufferPointer(rebasing: bytes[(offset + 16)..<end])
            guard Digest128(of: sealed) == checksum else { return nil }
            guard let kind = Kind(rawValue: rawKind), zero == 0,
                version == ManifestRecord.version
            else { return nil }
            self.kind = kind
            range = offset..<end
        } catch { return nil }
    }

    /// Whether an intact record with a higher ordinal stands anywhere from `offset` on. An append
    /// starts only when the one before is durable, so such a record proves that what is missing
    /// before it was durable once.
    static func exists(above ordinal: UInt64, in bytes: UnsafeRawBufferPointer, from offset: Int)
        -> Bool
    {
        guard bytes.count >= headerSize else { return false }
        var at = max(0, offset)
        while at <= bytes.count - headerSize {
            let found = UInt32(
                littleEndian: bytes.loadUnaligned(fromByteOffset: at + magicOffset, as: UInt32.self)
            )
            if found == magic, let record = ManifestRecord(in: bytes, at: at),
                record.ordinal > ordinal
            {
                return true
            }
            at += 1
        }
        return false
    }
}

/// The longest valid chain that the copies of one manifest hold together.
struct ManifestChain {
    enum Failure: Error, Hashable {
        case damaged(FileDamage)
        case foreign(String)
    }

    /// Header and records, as an undamaged copy holds them.
    private(set) var bytes: [UInt8]
    private(set) var records: [ManifestRecord]
    /// For each copy given, whether it is exactly `bytes`.
    private(set) var isIntact: [Bool]
    /// Bytes behind the chain in the longest copy: an append that never became durable.
    private(set) var tornBytes: Int
    /// Nil for a plain manifest.
    let cipher: FileCipher?

    /// Walks the copies (nil: unreadable or missing) of the manifest with `header`, whose key gives
    /// `cipher`.
    init(_ copies: [[UInt8]?], _ header: ManifestHeader, _ cipher: FileCipher?) throws(Failure) {
        let header = header.encoded()
        self.cipher = cipher
        bytes = header.bytes
        records = []
        var previous = header.checksum
        while let (record, copy) = ManifestChain.next(
            copies, at: bytes.count, previous: previous, after: records.last, cipher)
        {
            bytes.append(contentsOf: copy[record.range])
            records.append(record)
            previous = record.checksum
        }
        let end = bytes.count
        let image = bytes
        isIntact = copies.map { $0 == image }
        tornBytes = max(0, (copies.compactMap { $0?.count }.max() ?? 0) - end)
        guard let last = records.last else {
            throw .damaged(FileDamage(at: UInt64(end), "no copy has an intact snapshot"))
        }
        for copy in copies {
            let goesOn = copy?.withUnsafeBytes {
                ManifestRecord.exists(above: last.ordinal, in: $0, from: end)
            }
            guard goesOn != true else {
                throw .damaged(
                    FileDamage(
                        at: UInt64(end),
                        "record \(last.ordinal + 1) is damaged in both copies, later ones are "
                            + "intact"))
            }
        }
    }

    /// The header of manifest `number`, from the first copy (nil: unreadable or missing) in which
    /// it is intact.
    static func findHeader(
        _ copies: [[UInt8]?], number: UInt64, identity: ManifestIdentity
    ) throws(Failure) -> ManifestHeader {
        var valid: ManifestHeader?
        for copy in copies {
            switch copy?.withUnsafeBytes({ ManifestHeader.find(in: $0) }) {
            case .valid(let header, _)? where header.number == number:
                guard header.identity == identity else {
                    throw .foreign(
                        "the manifest is of node \(header.identity.node), group"
                            + " \(header.identity.group) of cluster \(header.identity.genesis)")
                }
                if valid == nil { valid = header }
            case .unsupported(let version)?:
                throw .foreign("manifest version \(version) is not supported by this build")
            case .valid?, .damaged?, nil: break
            }
        }
        guard let valid else {
            let isAnyThere = copies.contains { $0 != nil }
            throw .damaged(FileDamage(at: isAnyThere ? 0 : nil, "no copy has an intact header"))
        }
        return valid
    }

    /// The record at `offset` that continues the chain, and the copy that holds it: one in which it
    /// is authentic, if there is one. Else its payload says what is wrong.
    static func next(
        _ copies: [[UInt8]?], at offset: Int, previous: Digest128, after last: ManifestRecord?,
        _ cipher: FileCipher?
    ) -> (ManifestRecord, [UInt8])? {
        var first: (ManifestRecord, [UInt8])?
        for case let copy? in copies {
            guard let record = copy.withUnsafeBytes({ ManifestRecord(in: $0, at: offset) }),
                record.previous == previous, cipher != nil || record.session == 0
            else { continue }
            if let last {
                guard record.kind == .edits, record.ordinal == last.ordinal &+ 1 else { continue }
            } else if record.kind != .snapshot {
                continue
            }
            if cipher == nil || (try? payload(record, in: copy, cipher)) != nil {
                return (record, copy)
            }
            if first == nil { first = (record, copy) }
        }
        return first
    }

    /// Whether `copy`, which differs from the chain at `offset`, has a record there whose checksum
    /// holds all the same.
    func isTampered(_ copy: [UInt8], at offset: Int) -> Bool {
        guard cipher != nil, let record = records.first(where: { $0.range.contains(offset) }) else {
            return false
        }
        return copy.withUnsafeBytes { ManifestRecord(in: $0, at: record.range.lowerBound) } != nil
    }

    /// Decodes the snapshot and folds the edits.
    func folded() throws(FileDamage) -> ManifestState {
        guard let snapshot = records.first else { brokenInvariant("a chain without records") }
        var state = try decoded(snapshot) { (payload) throws(DecodingError) in
            try ManifestState(decoding: payload)
        }
        for record in records.dropFirst() {
            try decoded(record) { (payload) throws(DecodingError) in
                let edits = try payload.withBytes { (raw) throws(DecodingError) in
                    try ManifestEdit.decoded(raw)
                }
                try state.apply(edits)
            }
        }
        return state
    }

    private func decoded<R>(
        _ record: ManifestRecord, _ body: ([UInt8]) throws(DecodingError) -> R
    ) throws(FileDamage) -> R {
        do throws(DecodingError) {
            return try body(try ManifestChain.payload(record, in: bytes, cipher))
        } catch { throw FileDamage(at: UInt64(record.range.lowerBound), error.what) }
    }

    /// What `record` of the file `bytes` says, decrypted.
    static func payload(
        _ record: ManifestRecord, in bytes: [UInt8], _ cipher: FileCipher?
    ) throws(DecodingError) -> [UInt8] {
        var payload = Array(bytes[record.payload])
        guard let cipher else { return payload }
        let length = payload.count - FileCipher.tagBytes
        guard length >= 0 else { throw DecodingError("a payload without its tag") }
        let isAuthentic = bytes.withUnsafeBytes { all in
            payload.withUnsafeMutableBytes { raw in
                guard let base = raw.baseAddress else { return false }
                let start = record.range.lowerBound
                let head = all[(start + 16)..<(start + ManifestRecord.headerSize)]
                return cipher.open(
                    CipherNonce(high: record.session, low: record.ordinal),
                    authenticated: UnsafeRawBufferPointer(rebasing: head),
                    UnsafeRawBufferPointer(start: base, count: length), to: base,
                    tag: UnsafeRawPointer(base + length))
            }
        }
        guard isAuthentic else {
            throw DecodingError(
                "record \(record.ordinal) holds its checksum and is not authentic: it was "
                    + "tampered with")
        }
        payload.removeLast(FileCipher.tagBytes)
        return payload
    }
}
