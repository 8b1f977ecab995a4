// Bytes of fetch requests and replies (the bulk lane).
import Engine

enum FetchCodec {
    private enum Tag {
        static let block: UInt8 = 1
        static let leaves: UInt8 = 2
        static let entry: UInt8 = 3
        static let manifest: UInt8 = 4
        static let read: UInt8 = 5

        static let bytes: UInt8 = 1
        static let noValue: UInt8 = 2
        static let value: UInt8 = 3
        static let expiringValue: UInt8 = 4
        static let unavailable: UInt8 = 5
    }

    /// Longest reason of an `unavailable`, bytes.
    private static let reasonBytes = 1024

    static func write(_ request: FetchRequest, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        switch request {
        case .block(let table, let digest, let ordinal):
            writer.write(Tag.block)
            table.encode(into: &writer)
            writer.write(digest)
            writer.write(ordinal.rawValue)
        case .leaves(let table, let digest):
            writer.write(Tag.leaves)
            table.encode(into: &writer)
            writer.write(digest)
        case .entry(let index, let checksum):
            writer.write(Tag.entry)
            try writer.writeNumber(index.rawValue)
            writer.write(checksum)
        case .manifest:
            writer.write(Tag.manifest)
        case .read(let key, let index, let now):
            guard key.count <= Limits.keyBytes else {
                throw UnsendableMessage("a key of \(key.count) bytes")
            }
            writer.write(Tag.read)
            try writer.writeNumber(index.rawValue)
            try writer.writeNumber(now)
            writer.write(raw: key)
        }
    }

    static func readRequest(_ reader: inout ByteReader) throws(DecodingError) -> FetchRequest {
        switch try reader.read(UInt8.self) {
        case Tag.block:
            let table = try readTable(&reader)
            let digest = try reader.readDigest()
            return .block(
                table: table, digest: digest, ordinal: BlockOrdinal(try reader.read(UInt32.self)))
        case Tag.leaves:
            let table = try readTable(&reader)
            return .leaves(table: table, digest: try reader.readDigest())
        case Tag.entry:
            let index = LogIndex(try reader.readNumber())
            return .entry(index: index, checksum: try reader.readDigest())
        case Tag.manifest: return .manifest
        case Tag.read:
            let index = LogIndex(try reader.readNumber())
            let now = try reader.readNumber()
            guard reader.remaining <= Limits.keyBytes else {
                throw DecodingError("a key of \(reader.remaining) bytes")
            }
            return .read(key: try reader.readRest(), index: index, now: now)
        case let tag: throw DecodingError("fetch request \(tag) is unknown")
        }
    }

    private static func readTable(_ reader: inout ByteReader) throws(DecodingError) -> TableID {
        let table = try TableID(&reader)
        guard table.index.rawValue < MessageCodec.numberLimit else {
            throw DecodingError("a table of entry \(table.index)")
        }
        return table
    }

    static func write(_ reply: FetchReply, into writer: inout ByteWriter) {
        switch reply {
        case .bytes(let bytes):
            writer.write(Tag.bytes)
            writer.write(raw: bytes)
        case .value(nil):
            writer.write(Tag.noValue)
        case .value(let value?):
            writer.write(value.expiry == nil ? Tag.value : Tag.expiringValue)
            if let expiry = value.expiry { writer.write(expiry) }
            writer.write(raw: value.value)
        case .unavailable(let reason):
            writer.write(Tag.unavailable)
            writer.writeText(reason, atMost: reasonBytes)
        }
    }

    static func readReply(_ reader: inout ByteReader) throws(DecodingError) -> FetchReply {
        switch try reader.read(UInt8.self) {
        case Tag.bytes: return .bytes(try reader.readRest())
        case Tag.noValue: return .value(nil)
        case Tag.value: return .value(LiveValue(value: try reader.readRest()))
        case Tag.expiringValue:
            let expiry = try reader.read(UInt64.self)
            return .value(LiveValue(value: try reader.readRest(), expiry: expiry))
        case Tag.unavailable: return .unavailable(try reader.readText(atMost: reasonBytes))
        case let tag: throw DecodingError("fetch reply \(tag) is unknown")
        }
    }
}
