// What members say to each other: the stream of frames, both handshake frames, and the payload of
// every message. A payload that decodes is written again as the very same bytes: the encoding is
// canonical, so that two members never read one message differently.

import Engine
import Replication

extension FuzzTarget {
    static let peerTargets: [FuzzTarget] =
        [
            FuzzTarget("frames") { bytes in
                guard let first = bytes.first else { return }
                let rest = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
                readStream([UInt8](rest), isOpen: first & 1 == 0, piece: Int(first >> 1) + 1)
            },
            // Framed here, behind right checksums: a type, a length of one byte, a payload.
            FuzzTarget("framed") { bytes in
                var stream: [UInt8] = []
                var rest = bytes[...]
                while let type = rest.popFirst(), let length = rest.popFirst() {
                    let payload = [UInt8](rest.prefix(Int(length)))
                    rest = rest.dropFirst(payload.count)
                    let types = FrameType.allCases
                    stream += framed(types[Int(type) % types.count], payload)
                }
                readStream(stream, isOpen: true, piece: 17)
            },
            FuzzTarget("hello") { bytes in
                guard let hello = try? Hello(decoding: bytes) else { return }
                // Bytes behind the known fields are ignored.
                let again = hello.encodedFrame().dropFirst(FrameHeader.size)
                precondition(bytes.starts(with: again), "a hello does not read back as itself")
                judge(hello)
            },
            FuzzTarget("refusal") { bytes in
                guard let refusal = try? Refusal(decoding: bytes) else { return }
                let again = try? refusal.encodedFrame().withUnsafeBytes {
                    try Refusal(decoding: UnsafeRawBufferPointer(rebasing: $0[FrameHeader.size...]))
                }
                precondition(again == refusal, "a refusal does not read back as itself")
            },
        ] + messageTypes.map(message)

    private static var messageTypes: [FrameType] {
        FrameType.allCases.filter { $0 != .hello && $0 != .refusal }
    }

    /// The payload of one type of frame.
    private static func message(_ type: FrameType) -> FuzzTarget {
        FuzzTarget("message-\(type)") { bytes in
            var payload = [UInt8](bytes)
            if type == .append { sealEntries(of: &payload) }
            check(type, payload)
        }
    }

    private static func check(_ type: FrameType, _ payload: [UInt8]) {
        // A longer one never reaches the codec.
        guard payload.count <= FrameLimits().payloadBytes(of: type) else { return }
        let decoded = try? payload.withUnsafeBytes { try MessageCodec.decode(type, $0) }
        guard let message = decoded else { return }
        var writer = ByteWriter()
        let written: Void? = try? MessageCodec.encode(message, into: &writer)
        precondition(written != nil, "\(type): what decodes cannot be sent")
        precondition(
            writer.bytes == framed(type, payload), "\(type): other bytes than were decoded")
        _ = MessageCodec.estimatedBytes(of: message)
        _ = message.lane
    }

    /// In pieces, as sockets bring it. What is taken as a frame was framed exactly so.
    private static func readStream(_ stream: [UInt8], isOpen: Bool, piece: Int) {
        var assembler = FrameAssembler(limits: FrameLimits())
        assembler.isOpen = isOpen
        var taken = 0
        for start in stride(from: 0, to: stream.count, by: piece) {
            let end = min(start + piece, stream.count)
            stream[start..<end].withUnsafeBytes { assembler.append($0) }
            while true {
                let next: FrameAssembler.Frame?
                do throws(DecodingError) { next = try assembler.next() } catch { return }
                guard let frame = next else { break }
                let payload = try? assembler.withPayload(of: frame) { [UInt8]($0) }
                let again = framed(frame.type, payload ?? [])
                precondition(
                    stream[taken..<(taken + again.count)].elementsEqual(again),
                    "a frame does not read back as itself")
                precondition(
                    isOpen || frame.type == .hello || frame.type == .refusal,
                    "a message before the hello")
                taken += again.count
                if let payload, frame.type != .hello, frame.type != .refusal {
                    check(frame.type, payload)
                }
            }
            precondition(
                taken + assembler.pendingBytes == end, "bytes of the stream are lost or kept twice")
        }
    }

    /// By rules that know some members: any hello gives a refusal or none.
    private static func judge(_ hello: Hello) {
        var rules = HandshakeRules(
            identity: PeerIdentity(cluster: "alpha", node: MemberID(2)), group: 7,
            boot: HandshakeRules.Boot(counter: 3, nonce: 4), members: [MemberID(1), MemberID(3)],
            newest: [MemberID(1): HandshakeRules.Boot(counter: 5, nonce: 0xfeed)])
        let certificate = PeerIdentity(cluster: "alpha", node: hello.sender)
        let isAdmitted =
            (try? rules.judge(hello, certificate: certificate, expected: nil, lane: nil, now: 0))
            != nil
        precondition(
            !isAdmitted || hello.sender == MemberID(1) || hello.sender == MemberID(3),
            "a stranger was admitted")
    }
}

func framed(_ type: FrameType, _ payload: [UInt8]) -> [UInt8] {
    payload.withUnsafeBytes { FrameHeader(type: type, payload: $0).encoded() } + payload
}

/// Chains the entries of an `append` and makes their checksums right, so that what stands behind
/// those is reached.
private func sealEntries(of payload: inout [UInt8]) {
    let lengthOffset = 76
    var start = 4 + 4 * 8 + 4
    var previous: ArraySlice<UInt8>?
    while start + EntryHeader.size <= payload.count {
        if let previous { payload.replaceSubrange((start + 16)..<(start + 32), with: previous) }
        let length = payload[(start + lengthOffset)...].prefix(4).reversed()
            .reduce(0) { $0 << 8 | Int($1) }
        let end = start + EntryHeader.size + length
        guard end <= payload.count else { return }
        var writer = ByteWriter()
        writer.write([UInt8](payload[(start + 16)..<end]).withUnsafeBytes { Digest128(of: $0) })
        payload.replaceSubrange(start..<(start + 16), with: writer.bytes)
        previous = writer.bytes[...]
        start = end
    }
}
