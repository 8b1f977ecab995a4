// A frame is the unit on a peer connection: a fixed header and a payload. The header has a checksum
// of its own, so a length is believed only after it was verified; the payload has a hash. Every
// type has a greatest payload, compared before a byte of it is kept. Layout: docs/formats/wire.md.
import Engine

/// What a frame carries. Raw values are part of the wire format.
package enum FrameType: UInt8, Sendable, CaseIterable {
    case hello = 1
    case refusal = 2
    case vote = 16
    case voteReply = 17
    case append = 18
    case appendReply = 19
    case heartbeat = 20
    case heartbeatReply = 21
    case timeoutNow = 22
    case leaseHeartbeat = 23
    case promise = 24
    case transfer = 25
    case report = 32
    case progress = 33
    case recompute = 34
    case readIndex = 48
    case readIndexReply = 49
    case forward = 50
    case forwardReply = 51
    case wait = 52
    case waitReply = 53
    case fetch = 64
    case fetchReply = 65
}

/// Greatest payloads. Frames of known small size have fixed bounds; those that may carry a value
/// are bounded by the largest value; the rest by a setting.
package struct FrameLimits: Sendable, Hashable {
    /// Frames without a value but of no fixed size, that is reports.
    package var ordinaryBytes: Int
    /// Frames that may carry a value, an entry or a block.
    package var valueBytes: Int

    package static let handshakeBytes = 4096
    package static let fixedBytes = 128
    package static let progressBytes = fixedBytes + 16 * Limits.members

    package init(
        ordinaryBytes: Int = 16 << 20, valueBytes: Int = Limits.entryPayloadBytes + 8192
    ) {
        self.ordinaryBytes = ordinaryBytes
        self.valueBytes = valueBytes
    }

    package func payloadBytes(of type: FrameType) -> Int {
        switch type {
        case .hello, .refusal: return FrameLimits.handshakeBytes
        case .vote, .voteReply, .appendReply, .heartbeat, .heartbeatReply, .timeoutNow,
            .leaseHeartbeat, .promise, .transfer, .recompute, .readIndex, .readIndexReply, .wait,
            .waitReply:
            return FrameLimits.fixedBytes
        case .progress: return FrameLimits.progressBytes
        case .report: return ordinaryBytes
        case .fetch: return Limits.keyBytes + FrameLimits.fixedBytes
        case .append, .forward, .forwardReply, .fetchReply: return valueBytes
        }
    }
}

package struct FrameHeader: Sendable, Hashable {
    package static let size = 20
    package static let version: UInt8 = 1

    package var type: FrameType
    /// Bytes of the payload.
    package var length: Int
    /// XXH3-64 of the payload.
    package var payloadHash: UInt64

    package init(type: FrameType, payload: UnsafeRawBufferPointer) {
        self.type = type
        length = payload.count
        payloadHash = Checksum.hash64(payload)
    }

    /// Parses and verifies the header at the start of `bytes`, which hold at least `size`.
    package init(parsing bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let length = try reader.read(UInt32.self)
        let rawType = try reader.read(UInt8.self)
        let version = try reader.read(UInt8.self)
        let flags = try reader.read(UInt16.self)
        payloadHash = try reader.read(UInt64.self)
        let checksum = try reader.read(UInt32.self)
        guard checksum == Checksum.crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<16])) else {
            throw DecodingError("a frame header's checksum does not match")
        }
        guard version == FrameHeader.version else {
            throw DecodingError("frame version \(version) is not supported")
        }
        guard flags == 0 else { throw DecodingError("frame flags \(flags) are unknown") }
        guard let type = FrameType(rawValue: rawType) else {
            throw DecodingError("frame type \(rawType) is unknown")
        }
        self.type = type
        self.length = Int(length)
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: FrameHeader.size)
        writer.write(UInt32(length))
        writer.write(type.rawValue)
        writer.write(FrameHeader.version)
        writer.write(UInt16(0))
        writer.write(payloadHash)
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }
}

/// A message that cannot go out: it is longer than the receiver would accept, or holds a number
/// that no correct member has.
package struct UnsendableMessage: Error, Sendable, Hashable, CustomStringConvertible {
    package var what: String
    package init(_ what: String) { self.what = what }
    package var description: String { what }
}

extension ByteWriter {
    /// Appends one frame whose payload `body` writes. On an error nothing is appended.
    mutating func writeFrame(
        _ type: FrameType, limits: FrameLimits,
        _ body: (inout ByteWriter) throws(UnsendableMessage) -> Void
    ) throws(UnsendableMessage) {
        let start = count
        bytes.append(contentsOf: repeatElement(0, count: FrameHeader.size))
        do throws(UnsendableMessage) {
            try body(&self)
            let length = count - start - FrameHeader.size
            let limit = limits.payloadBytes(of: type)
            guard length <= limit else {
                throw UnsendableMessage("\(type) of \(length) bytes is above the limit of \(limit)")
            }
        } catch {
            bytes.removeLast(count - start)
            throw error
        }
        let header = bytes.withUnsafeBytes { all in
            FrameHeader(
                type: type,
                payload: UnsafeRawBufferPointer(rebasing: all[(start + FrameHeader.size)...]))
        }
        bytes.replaceSubrange(start..<(start + FrameHeader.size), with: header.encoded())
    }
}
