// Bytes of the consensus messages. Entries travel as their stored bytes: the sender does not
// touch them, the receiver verifies each one's checksum and that they follow each other.
import Engine

enum RaftMessageCodec {
    static func write(_ message: RaftMessage, group: UInt32, into writer: inout ByteWriter)
        throws(UnsendableMessage)
    {
        switch message {
        case .vote(let request):
            try writer.writeNumber(request.term.rawValue)
            try writer.writeNumber(request.lastIndex.rawValue)
            try writer.writeNumber(request.lastTerm.rawValue)
            writer.writeFlag(request.isPreVote)
            writer.writeFlag(request.isTransfer)
        case .voteReply(let reply):
            try writer.writeNumber(reply.term.rawValue)
            writer.writeFlag(reply.isPreVote)
            writer.writeFlag(reply.isGranted)
            try writer.writeNumber(reply.clock)
        case .append(let request):
            try write(request, group: group, into: &writer)
        case .appendReply(let reply):
            try writer.writeNumber(reply.term.rawValue)
            try writer.writeNumber(reply.index.rawValue)
            try writer.writeNumber(reply.hintIndex.rawValue)
            try writer.writeNumber(reply.hintTerm.rawValue)
            writer.writeFlag(reply.isAccepted)
        case .heartbeat(let heartbeat):
            try writer.writeNumber(heartbeat.term.rawValue)
            try writer.writeNumber(heartbeat.commit.rawValue)
            try writer.writeNumber(heartbeat.round)
            try writer.writeNumber(heartbeat.clock)
            // "Never" is a large age, not an error.
            writer.write(min(heartbeat.quorumAge, MessageCodec.numberLimit - 1))
            try writer.writeNumber(heartbeat.acked)
            if heartbeat.lease > 0 { try writer.writeNumber(heartbeat.lease) }
        case .heartbeatReply(let reply):
            try writer.writeNumber(reply.term.rawValue)
            try writer.writeNumber(reply.round)
            try writer.writeNumber(reply.clock)
        case .timeoutNow(let term):
            try writer.writeNumber(term.rawValue)
        case .transfer(let term, let target):
            try writer.writeNumber(term.rawValue)
            writer.write(target.rawValue)
        }
    }

    static func read(_ type: FrameType, group: UInt32, _ reader: inout ByteReader)
        throws(DecodingError) -> RaftMessage
    {
        switch type {
        case .vote: return .vote(try readVote(&reader))
        case .voteReply:
            let term = Term(try reader.readNumber())
            let isPreVote = try reader.readFlag()
            let isGranted = try reader.readFlag()
            return .voteReply(
                VoteReply(
                    term: term, isPreVote: isPreVote, isGranted: isGranted,
                    clock: try reader.readNumber()))
        case .append: return .append(try readAppend(group: group, &reader))
        case .appendReply: return .appendReply(try readAppendReply(&reader))
        case .heartbeat: return .heartbeat(try readHeartbeat(&reader))
        case .leaseHeartbeat:
            var heartbeat = try readHeartbeat(&reader)
            heartbeat.lease = try reader.readNumber()
            guard heartbeat.lease > 0 else { throw DecodingError("a lease of no length") }
            return .heartbeat(heartbeat)
        case .heartbeatReply, .promise:
            let term = Term(try reader.readNumber())
            let round = try reader.readNumber()
            return .heartbeatReply(
                HeartbeatReply(
                    term: term, round: round, clock: try reader.readNumber(),
                    isPromised: type == .promise))
        case .timeoutNow: return .timeoutNow(term: Term(try reader.readNumber()))
        case .transfer:
            let term = Term(try reader.readNumber())
            return .transfer(term: term, to: MemberID(try reader.read(UInt64.self)))
        case .hello, .refusal, .report, .progress, .recompute, .readIndex, .readIndexReply,
            .forward, .forwardReply, .wait, .waitReply, .fetch, .fetchReply:
            throw DecodingError("a frame of type \(type) is not a consensus message")
        }
    }

    private static func readVote(_ reader: inout ByteReader) throws(DecodingError) -> VoteRequest {
        let term = Term(try reader.readNumber())
        let lastIndex = LogIndex(try reader.readNumber())
        let lastTerm = Term(try reader.readNumber())
        let isPreVote = try reader.readFlag()
        return VoteRequest(
            term: term, isPreVote: isPreVote, lastIndex: lastIndex, lastTerm: lastTerm,
            isTransfer: try reader.readFlag())
    }

    private static func readAppendReply(_ reader: inout ByteReader) throws(DecodingError)
        -> AppendReply
    {
        let term = Term(try reader.readNumber())
        let index = LogIndex(try reader.readNumber())
        let hintIndex = LogIndex(try reader.readNumber())
        let hintTerm = Term(try reader.readNumber())
        return AppendReply(
            term: term, isAccepted: try reader.readFlag(), index: index, hintIndex: hintIndex,
            hintTerm: hintTerm)
    }

    private static func readHeartbeat(_ reader: inout ByteReader) throws(DecodingError)
        -> Heartbeat
    {
        let term = Term(try reader.readNumber())
        let commit = LogIndex(try reader.readNumber())
        let round = try reader.readNumber()
        let clock = try reader.readNumber()
        return Heartbeat(
            term: term, commit: commit, round: round, clock: clock,
            quorumAge: try reader.readNumber(), acked: try reader.readNumber())
    }

    // MARK: Append

    private static func write(
        _ request: AppendRequest, group: UInt32, into writer: inout ByteWriter
    ) throws(UnsendableMessage) {
        try writer.writeNumber(request.term.rawValue)
        try writer.writeNumber(request.previousIndex.rawValue)
        try writer.writeNumber(request.previousTerm.rawValue)
        try writer.writeNumber(request.commit.rawValue)
        writer.write(UInt32(request.entries.count))
        var check = EntryRun(request, group: group)
        for entry in request.entries {
            do throws(DecodingError) { try check.accept(entry.header) } catch {
                throw UnsendableMessage(error.what)
            }
            writer.write(raw: entry.encoded)
        }
    }

    private static func readAppend(group: UInt32, _ reader: inout ByteReader)
        throws(DecodingError) -> AppendRequest
    {
        let term = Term(try reader.readNumber())
        let previousIndex = LogIndex(try reader.readNumber())
        let previousTerm = Term(try reader.readNumber())
        let commit = LogIndex(try reader.readNumber())
        let count = try reader.readCount(itemBytes: EntryHeader.size, "entries")
        var request = AppendRequest(
            term: term, previousIndex: previousIndex, previousTerm: previousTerm, entries: [],
            commit: commit)
        var check = EntryRun(request, group: group)
        // More only as they prove to be there.
        request.entries.reserveCapacity(min(count, 1024))
        for _ in 0..<count {
            let entry = try readEntry(&reader)
            try check.accept(entry.header)
            request.entries.append(entry)
        }
        return request
    }

    private static func readEntry(_ reader: inout ByteReader) throws(DecodingError) -> Entry {
        let rest = UnsafeRawBufferPointer(rebasing: reader.bytes[reader.offset...])
        let header = try EntryHeader(parsing: rest)
        let bytes = try reader.readBytes(EntryHeader.size + Int(header.length))
        return try Entry(decoding: [UInt8](bytes))
    }
}

/// Entries of one request: of the group, index by index behind `previousIndex`, terms never going
/// back nor above the request's, each chained to the one before it in the request.
private struct EntryRun {
    private let group: UInt32
    private let limit: Term
    private var index: UInt64
    private var term: Term
    private var checksum: Digest128?

    init(_ request: AppendRequest, group: UInt32) {
        self.group = group
        limit = request.term
        index = request.previousIndex.rawValue
        term = request.previousTerm
    }

    mutating func accept(_ header: EntryHeader) throws(DecodingError) {
        guard header.group == group else {
            throw DecodingError("an entry of group \(header.group) in a message of group \(group)")
        }
        // The previous index is below 2^62, so this cannot overflow.
        index &+= 1
        guard header.index.rawValue == index, index < MessageCodec.numberLimit else {
            throw DecodingError("entry \(header.index) stands in the place of entry \(index)")
        }
        guard header.term >= term, header.term <= limit else {
            throw DecodingError("entry \(header.index) has term \(header.term) out of order")
        }
        guard header.clock < MessageCodec.numberLimit,
            header.commit.rawValue < MessageCodec.numberLimit
        else { throw DecodingError("entry \(header.index) holds a number out of range") }
        if let checksum, header.previous != checksum {
            throw DecodingError("entry \(header.index) does not follow the one before it")
        }
        term = header.term
        checksum = header.checksum
    }
}
