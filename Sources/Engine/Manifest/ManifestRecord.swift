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

    static let size = 64
    static let version: UInt16 = 1
    private static let magic: UInt64 = 0x5446_4e4d_4c54_524d  // "MRTLMNFT"

    enum Finding: Hashable {
        case valid(ManifestHeader, checksum: Digest128)
        case damaged
        /// Intact, but of a format that this build does not read.
        case unsupported(UInt16)
    }

    func encoded() -> (bytes: [UInt8], checksum: Digest128) {
        var writer = ByteWriter(capacity: ManifestHeader.size)
        writer.write(ManifestHeader.magic)
        writer.write(ManifestHeader.version)
        writer.write(UInt16(0))
        writer.write(identity.group)
        writer.write(number)
        writer.write(identity.genesis)
        writer.write(identity.node.rawValue)
        let checksum = Digest128(of: writer.bytes)
        writer.write(checksum)
        return (writer.bytes, checksum)
    }

    static func find(in bytes: UnsafeRawBufferPointer) -> Finding {
        guard bytes.count >= size else { return .damaged }
        do throws(DecodingError) {
            var reader = ByteReader(bytes)
            guard try reader.read(UInt64.self) == magic else { return .damaged }
            let version = try reader.read(UInt16.self)
            let zero = try reader.read(UInt16.self)
            let group = try reader.read(UInt32.self)
            let number = try reader.read(UInt64.self)
            let genesis = try reader.readDigest()
            let node = MemberID(try reader.read(UInt64.self))
            let checksum = try reader.readDigest()
            let actual = Digest128(of: UnsafeRawBufferPointer(rebasing: bytes[..<48]))
            guard checksum == actual else { return .damaged }
            guard version == ManifestHeader.version, zero == 0 else { return .unsupported(version) }
            let identity = ManifestIdentity(genesis: genesis, group: group, node: node)
            return .valid(
                ManifestHeader(identity: identity, number: number), checksum: checksum)
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
    /// In the file.
    var range: Range<Int>

    static let headerSize = 56
    static let version: UInt16 = 1
    static let magic: UInt32 = 0x4345_524d  // "MREC"
    private static let magicOffset = 32

    var payload: Range<Int> { (range.lowerBound + ManifestRecord.headerSize)..<range.upperBound }

    static func encoded(_ kind: Kind, ordinal: UInt64, previous: Digest128, payload: [UInt8])
        -> (bytes: [UInt8], checksum: Digest128)
    {
        var writer = ByteWriter(capacity: headerSize + payload.count)
        writer.write(Digest128.zero)
        writer.write(previous)
        writer.write(magic)
        writer.write(UInt32(payload.count))
        writer.write(ordinal)
        writer.write(kind.rawValue)
        writer.write(UInt8(0))
        writer.write(version)
        writer.write(UInt32(0))
        writer.write(raw: payload)
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
            let zeros = try reader.read(UInt32.self)
            guard reader.remaining >= length else { return nil }
            let end = offset + ManifestRecord.headerSize + length
            let sealed = UnsafeRawBufferPointer(rebasing: bytes[(offset + 16)..<end])
            guard Digest128(of: sealed) == checksum else { return nil }
            guard let kind = Kind(rawValue: rawKind), zero == 0, zeros == 0,
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
        case damaged(String)
        case foreign(String)
    }

    /// Header and records, as an undamaged copy holds them.
    private(set) var bytes: [UInt8]
    private(set) var records: [ManifestRecord]
    /// For each copy given, whether it is exactly `bytes`.
    private(set) var isIntact: [Bool]
    /// Bytes behind the chain in the longest copy: an append that never became durable.
    private(set) var tornBytes: Int

    /// Walks the copies (nil: unreadable or missing) of manifest `number`.
    init(_ copies: [[UInt8]?], number: UInt64, identity: ManifestIdentity) throws(Failure) {
        let header = ManifestHeader(identity: identity, number: number).encoded()
        try ManifestChain.checkHeaders(copies, number: number, identity: identity)
        bytes = header.bytes
        records = []
        var previous = header.checksum
        while let (record, copy) = ManifestChain.next(
            copies, at: bytes.count, previous: previous, after: records.last)
        {
            bytes.append(contentsOf: copy[record.range])
            records.append(record)
            previous = record.checksum
        }
        let end = bytes.count
        let image = bytes
        isIntact = copies.map { $0 == image }
        tornBytes = max(0, (copies.compactMap { $0?.count }.max() ?? 0) - end)
        guard let last = records.last else { throw .damaged("no copy has an intact snapshot") }
        for copy in copies {
            let goesOn = copy?.withUnsafeBytes {
                ManifestRecord.exists(above: last.ordinal, in: $0, from: end)
            }
            guard goesOn != true else {
                throw .damaged(
                    "record \(last.ordinal + 1) is damaged in both copies, later ones are intact")
            }
        }
    }

    private static func checkHeaders(
        _ copies: [[UInt8]?], number: UInt64, identity: ManifestIdentity
    ) throws(Failure) {
        var isAnyValid = false
        for copy in copies {
            switch copy?.withUnsafeBytes({ ManifestHeader.find(in: $0) }) {
            case .valid(let header, _)? where header.number == number:
                guard header.identity == identity else {
                    throw .foreign(
                        "the manifest is of node \(header.identity.node), group"
                            + " \(header.identity.group) of cluster \(header.identity.genesis)")
                }
                isAnyValid = true
            case .unsupported(let version)?:
                throw .foreign("manifest version \(version) is not supported by this build")
            case .valid?, .damaged?, nil: break
            }
        }
        guard isAnyValid else { throw .damaged("no copy has an intact header") }
    }

    static func next(
        _ copies: [[UInt8]?], at offset: Int, previous: Digest128, after last: ManifestRecord?
    ) -> (ManifestRecord, [UInt8])? {
        for case let copy? in copies {
            guard let record = copy.withUnsafeBytes({ ManifestRecord(in: $0, at: offset) }),
                record.previous == previous
            else { continue }
            if let last {
                guard record.kind == .edits, record.ordinal == last.ordinal &+ 1 else { continue }
            } else if record.kind != .snapshot {
                continue
            }
            return (record, copy)
        }
        return nil
    }

    /// Decodes the snapshot and folds the edits.
    func folded() throws(DecodingError) -> ManifestState {
        guard let snapshot = records.first else { throw DecodingError("no snapshot") }
        var state = try ManifestState(decoding: Array(bytes[snapshot.payload]))
        for record in records.dropFirst() {
            let edits = try bytes.withBytes { (all) throws(DecodingError) in
                try ManifestEdit.decoded(UnsafeRawBufferPointer(rebasing: all[record.payload]))
            }
            try state.apply(edits)
        }
        return state
    }
}
