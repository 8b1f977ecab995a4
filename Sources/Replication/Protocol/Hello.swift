// The first frame in each direction of a peer connection, and the frame that says no. Their layouts
// never change: they are how members of different versions find out about each other. Bytes behind
// the known fields are ignored.
import Engine

package struct Hello: Sendable, Hashable {
    /// Versions of the message protocol that the sender speaks.
    package var versions: ClosedRange<UInt16>
    package var cluster: String
    package var group: UInt32
    package var sender: MemberID
    /// Whom the sender means to talk to.
    package var receiver: MemberID
    package var lane: PeerLane
    /// How often the sender has started, and a random number that this start drew.
    package var bootCounter: UInt64
    package var nonce: UInt64

    package static let supportedVersions: ClosedRange<UInt16> = 1...1
    private static let magic: UInt32 = 0x6c74_726d  // "mrtl"

    package init(
        versions: ClosedRange<UInt16> = Hello.supportedVersions, cluster: String, group: UInt32,
        sender: MemberID, receiver: MemberID, lane: PeerLane, bootCounter: UInt64, nonce: UInt64
    ) {
        self.versions = versions
        self.cluster = cluster
        self.group = group
        self.sender = sender
        self.receiver = receiver
        self.lane = lane
        self.bootCounter = bootCounter
        self.nonce = nonce
    }

    /// Which start of the sender this is.
    var boot: HandshakeRules.Boot {
        HandshakeRules.Boot(counter: bootCounter, nonce: nonce)
    }

    /// The whole frame.
    package func encodedFrame() -> [UInt8] {
        handshakeFrame(.hello) { writer in
            writer.write(Hello.magic)
            writer.write(versions.lowerBound)
            writer.write(versions.upperBound)
            writer.write(group)
            writer.write(sender.rawValue)
            writer.write(receiver.rawValue)
            writer.write(bootCounter)
            writer.write(nonce)
            writer.write(lane.rawValue)
            writer.writeText(cluster, atMost: PeerIdentity.clusterBytes)
        }
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        guard try reader.read(UInt32.self) == Hello.magic else {
            throw DecodingError("a hello of some other protocol")
        }
        let lowest = try reader.read(UInt16.self)
        let highest = try reader.read(UInt16.self)
        guard lowest <= highest else { throw DecodingError("a hello without a version") }
        versions = lowest...highest
        group = try reader.read(UInt32.self)
        sender = MemberID(try reader.read(UInt64.self))
        receiver = MemberID(try reader.read(UInt64.self))
        bootCounter = try reader.read(UInt64.self)
        nonce = try reader.read(UInt64.self)
        let rawLane = try reader.read(UInt8.self)
        guard let lane = PeerLane(rawValue: rawLane) else {
            throw DecodingError("lane \(rawLane) is unknown")
        }
        self.lane = lane
        cluster = try reader.readText(atMost: PeerIdentity.clusterBytes)
        guard PeerIdentity.isValid(cluster: cluster) else {
            throw DecodingError("a hello with a malformed cluster name")
        }
    }
}

/// Why a member refuses a connection. Raw values are part of the wire format.
package enum RefusalReason: UInt8, Sendable, CaseIterable {
    /// A reason that this build does not know.
    case other = 0
    case unsupportedVersion = 1
    case differentCluster = 2
    case differentGroup = 3
    /// The peer has the receiver's own id.
    case sameIdentity = 4
    case unknownMember = 5
    /// The certificate belongs to another member than the hello says.
    case certificateMismatch = 6
    /// The certificate names no member, or several.
    case badCertificate = 7
    /// The peer looked for somebody else at this address.
    case misdirected = 8
    /// A later start of this member was seen already.
    case staleBoot = 9
    /// Another process runs with this member's id.
    case clone = 10
    case protocolViolation = 11
    /// The peer takes nothing of what is sent to it.
    case notReading = 12
    /// The peer has started again too soon; later it may come.
    case tooManyStarts = 13
}

/// The last frame on a connection: what was wrong, for the other side's log.
package struct Refusal: Error, Sendable, Hashable, CustomStringConvertible {
    package var reason: RefusalReason
    package var text: String

    private static let textBytes = 512

    package init(_ reason: RefusalReason, _ text: String) {
        self.reason = reason
        self.text = text
    }

    package var description: String { "\(text) (\(reason))" }

    package func encodedFrame() -> [UInt8] {
        handshakeFrame(.refusal) { writer in
            writer.write(reason.rawValue)
            writer.writeText(text, atMost: Refusal.textBytes)
        }
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        reason = RefusalReason(rawValue: try reader.read(UInt8.self)) ?? .other
        // It goes into a log line: a peer must not be able to make it look like two.
        let scalars = try reader.readText(atMost: Refusal.textBytes).unicodeScalars
        text = String(
            String.UnicodeScalarView(
                scalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
}

private func handshakeFrame(_ type: FrameType, _ body: (inout ByteWriter) -> Void) -> [UInt8] {
    var payload = ByteWriter(capacity: 128)
    body(&payload)
    let header = payload.bytes.withUnsafeBytes { FrameHeader(type: type, payload: $0) }
    return header.encoded() + payload.bytes
}
