// Bytes of every message between members: one frame each. Encoding is canonical (decoding and
// encoding again gives the same bytes) and decoding is total: any bytes give a message or an error.
// Log indexes, terms, rounds and clocks must be below 2^62, so that no arithmetic on a received
// number can overflow behind the codec. Layouts: docs/formats/wire.md.
import Engine

package enum MessageCodec {
    /// Numbers that come from the wire stay below this.
    package static let numberLimit: UInt64 = 1 << 62

    /// Appends the frame of `message`; on an error nothing.
    package static func encode(
        _ message: PeerMessage, limits: FrameLimits = FrameLimits(), into writer: inout ByteWriter
    ) throws(UnsendableMessage) {
        try writer.writeFrame(message.frameType, limits: limits) {
            (writer: inout ByteWriter) throws(UnsendableMessage) in
            try writePayload(of: message, into: &writer)
        }
    }

    private static func writePayload(of message: PeerMessage, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        switch message {
        case .raft(let group, let raft):
            writer.write(group)
            try RaftMessageCodec.write(raft, group: group, into: &writer)
        case .report(let group, let report):
            writer.write(group)
            try write(report, into: &writer)
        case .progress(let group, let progress):
            writer.write(group)
            try write(progress, into: &writer)
        case .recompute(let group, let job, let attempt):
            writer.write(group)
            try writer.writeNumber(job.index.rawValue)
            writer.write(job.kind.rawValue)
            writer.write(attempt)
        case .readIndex(let id):
            writer.write(id)
        case .readIndexReply(let id, let reply):
            writer.write(id)
            try write(reply, into: &writer)
        case .forward(let id, let bytes):
            writer.write(id)
            writer.write(raw: bytes)
        case .forwardReply(let id, let reply):
            writer.write(id)
            write(reply, into: &writer)
        case .wait(let id, let question):
            writer.write(id)
            try writer.writeNumber(question.index.rawValue)
            writer.write(question.count)
            try writer.writeNumber(question.timeout)
        case .waitReply(let id, let reached):
            writer.write(id)
            writer.write(UInt8(reached == nil ? 0 : 1))
            writer.write(UInt32(clamping: reached ?? 0))
        case .fetch(let id, let request):
            writer.write(id)
            try FetchCodec.write(request, into: &writer)
        case .fetchReply(let id, let reply):
            writer.write(id)
            FetchCodec.write(reply, into: &writer)
        }
    }

    /// Reads the payload of a verified frame; all of it must be used.
    package static func decode(_ type: FrameType, _ payload: UnsafeRawBufferPointer)
        throws(DecodingError) -> PeerMessage
    {
        var reader = ByteReader(payload)
        let message = try readPayload(type, &reader)
        try reader.expectEnd("a message of type \(type)")
        return message
    }

    private static func readPayload(_ type: FrameType, _ reader: inout ByteReader)
        throws(DecodingError) -> PeerMessage
    {
        switch type {
        case .hello, .refusal: throw DecodingError("a frame of type \(type) is not a message")
        case .vote, .voteReply, .append, .appendReply, .heartbeat, .heartbeatReply, .timeoutNow,
            .leaseHeartbeat, .promise, .transfer:
            let group = try reader.read(UInt32.self)
            return .raft(
                group: group, try RaftMessageCodec.read(type, group: group, &reader))
        case .report:
            let group = try reader.read(UInt32.self)
            return .report(group: group, try readReport(&reader))
        case .progress:
            let group = try reader.read(UInt32.self)
            return .progress(group: group, try readProgress(&reader))
        case .recompute:
            let group = try reader.read(UInt32.self)
            let index = LogIndex(try reader.readNumber())
            guard let kind = TableKind(rawValue: try reader.read(UInt8.self)), !kind.isBlob else {
                throw DecodingError("a job kind")
            }
            return .recompute(
                group: group, JobID(index: index, kind: kind),
                attempt: try reader.read(UInt32.self))
        case .readIndex: return .readIndex(try reader.read(UInt64.self))
        case .readIndexReply:
            let id = try reader.read(UInt64.self)
            return .readIndexReply(id, try readReadIndexReply(&reader))
        case .forward:
            let id = try reader.read(UInt64.self)
            return .forward(id, try reader.readRest())
        case .forwardReply:
            let id = try reader.read(UInt64.self)
            return .forwardReply(id, try readForwardReply(&reader))
        case .wait:
            let id = try reader.read(UInt64.self)
            let index = LogIndex(try reader.readNumber())
            let count = try reader.read(UInt32.self)
            let timeout = try reader.readNumber()
            return .wait(id, DurabilityQuestion(index: index, count: count, timeout: timeout))
        case .waitReply:
            let id = try reader.read(UInt64.self)
            return .waitReply(id, try readReached(&reader))
        case .fetch:
            let id = try reader.read(UInt64.self)
            return .fetch(id, try FetchCodec.readRequest(&reader))
        case .fetchReply:
            let id = try reader.read(UInt64.self)
            return .fetchReply(id, try FetchCodec.readReply(&reader))
        }
    }

    /// About how many bytes the frame of `message` takes: what queues count.
    package static func estimatedBytes(of message: PeerMessage) -> Int {
        let fixed = 128
        switch message {
        case .raft(_, .append(let request)):
            return request.entries.reduce(fixed) { $0 + $1.encoded.count }
        case .report(_, let report):
            return report.outcomes.reduce(fixed) { sum, outcome in
                guard case .tables(let records, _) = outcome.result else { return sum + 512 }
                return sum + records.reduce(32) { $0 + estimatedBytes(of: $1) }
            }
        case .forward(_, let bytes), .forwardReply(_, .answered(let bytes)),
            .fetchReply(_, .bytes(let bytes)), .fetch(_, .read(let bytes, _, _)):
            return fixed + bytes.count
        case .fetchReply(_, .value(let value?)): return fixed + value.value.count
        case .fetchReply(_, .unavailable(let reason)): return fixed + reason.utf8.count
        case .progress(_, let progress): return fixed + 16 * progress.matches.count
        case .raft, .recompute, .readIndex, .readIndexReply, .forwardReply, .wait, .waitReply,
            .fetch, .fetchReply:
            return fixed
        }
    }

    private static func estimatedBytes(of record: TableRecord) -> Int {
        160 + 4 * record.span.start.count + 20 * record.blobs.count
    }

    // MARK: Report

    private static func write(_ report: MemberReport, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        try writer.writeNumber(report.applied.rawValue)
        try writer.writeNumber(report.durable.rawValue)
        try writer.writeNumber(report.flushed.rawValue)
        try writer.writeNumber(report.frontier.rawValue)
        writer.write(report.stateRoot)
        writer.write(UInt32(report.outcomes.count))
        for outcome in report.outcomes { outcome.encode(into: &writer) }
    }

    private static func readReport(_ reader: inout ByteReader) throws(DecodingError)
        -> MemberReport
    {
        let applied = LogIndex(try reader.readNumber())
        let durable = LogIndex(try reader.readNumber())
        let flushed = LogIndex(try reader.readNumber())
        let frontier = LogIndex(try reader.readNumber())
        let stateRoot = try reader.readDigest()
        // An outcome takes at least 15 bytes, which bounds the count by what has arrived.
        let count = try reader.readCount(itemBytes: 15, "outcomes")
        let from = reader.offset
        var outcomes: [JobOutcome] = []
        for _ in 0..<count { outcomes.append(try JobOutcome(&reader)) }
        try expectCanonical(outcomes, in: reader, from: from)
        return MemberReport(
            applied: applied, durable: durable, flushed: flushed, frontier: frontier,
            stateRoot: stateRoot, outcomes: outcomes)
    }

    /// Outcomes hold varints, which have more than one spelling; only the shortest is accepted.
    private static func expectCanonical(
        _ outcomes: [JobOutcome], in reader: ByteReader, from: Int
    ) throws(DecodingError) {
        var writer = ByteWriter(capacity: reader.offset - from)
        for outcome in outcomes { outcome.encode(into: &writer) }
        guard reader.bytes[from..<reader.offset].elementsEqual(writer.bytes) else {
            throw DecodingError("outcomes are not in canonical form")
        }
    }

    // MARK: Words of the leader

    private static func write(_ progress: ClusterProgress, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        try writer.writeNumber(progress.minimumFrontier.rawValue)
        try writer.writeNumber(progress.logFloor.rawValue)
        writer.write(UInt32(progress.matches.count))
        for match in progress.matches {
            writer.write(match.member.rawValue)
            try writer.writeNumber(match.index.rawValue)
        }
    }

    private static func readProgress(_ reader: inout ByteReader) throws(DecodingError)
        -> ClusterProgress
    {
        let minimumFrontier = LogIndex(try reader.readNumber())
        let logFloor = LogIndex(try reader.readNumber())
        let count = try reader.readCount(itemBytes: 16, "members")
        var matches: [ClusterProgress.Match] = []
        for _ in 0..<count {
            let member = MemberID(try reader.read(UInt64.self))
            matches.append(
                ClusterProgress.Match(member: member, index: LogIndex(try reader.readNumber())))
        }
        return ClusterProgress(
            minimumFrontier: minimumFrontier, logFloor: logFloor, matches: matches)
    }

    private static func readReached(_ reader: inout ByteReader) throws(DecodingError) -> Int? {
        let isLeaders = try reader.read(UInt8.self)
        let count = try reader.read(UInt32.self)
        switch isLeaders {
        case 0 where count == 0: return nil
        case 1: return Int(count)
        default: throw DecodingError("wait reply \(isLeaders) is unknown")
        }
    }

    private static func write(_ reply: ReadIndexReply, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        switch reply {
        case .ready(let index, let clock):
            writer.write(UInt8(1))
            try writer.writeNumber(index.rawValue)
            try writer.writeNumber(clock)
        case .notLeader(let leader):
            writer.write(UInt8(2))
            writer.write(leader.rawValue)
        }
    }

    private static func readReadIndexReply(_ reader: inout ByteReader) throws(DecodingError)
        -> ReadIndexReply
    {
        switch try reader.read(UInt8.self) {
        case 1:
            let index = LogIndex(try reader.readNumber())
            return .ready(index: index, clock: try reader.readNumber())
        case 2: return .notLeader(leader: MemberID(try reader.read(UInt64.self)))
        case let tag: throw DecodingError("read index reply \(tag) is unknown")
        }
    }

    private static func write(_ reply: ForwardReply, into writer: inout ByteWriter) {
        switch reply {
        case .answered(let bytes):
            writer.write(UInt8(1))
            writer.write(raw: bytes)
        case .notLeader(let leader):
            writer.write(UInt8(2))
            writer.write(leader.rawValue)
        }
    }

    private static func readForwardReply(_ reader: inout ByteReader) throws(DecodingError)
        -> ForwardReply
    {
        switch try reader.read(UInt8.self) {
        case 1: return .answered(try reader.readRest())
        case 2: return .notLeader(leader: MemberID(try reader.read(UInt64.self)))
        case let tag: throw DecodingError("forward reply \(tag) is unknown")
        }
    }
}

extension PeerMessage {
    package var frameType: FrameType {
        switch self {
        case .raft(_, .vote): return .vote
        case .raft(_, .voteReply): return .voteReply
        case .raft(_, .append): return .append
        case .raft(_, .appendReply): return .appendReply
        case .raft(_, .heartbeat(let heartbeat)):
            return heartbeat.lease > 0 ? .leaseHeartbeat : .heartbeat
        case .raft(_, .heartbeatReply(let reply)):
            return reply.isPromised ? .promise : .heartbeatReply
        case .raft(_, .timeoutNow): return .timeoutNow
        case .raft(_, .transfer): return .transfer
        case .report: return .report
        case .progress: return .progress
        case .recompute: return .recompute
        case .readIndex: return .readIndex
        case .readIndexReply: return .readIndexReply
        case .forward: return .forward
        case .forwardReply: return .forwardReply
        case .wait: return .wait
        case .waitReply: return .waitReply
        case .fetch: return .fetch
        case .fetchReply: return .fetchReply
        }
    }
}
