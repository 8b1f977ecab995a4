// What a follower sends to the leader for commands that may write, and what comes back. Layout in
// docs/formats/forward.md. Both carry a format byte and a CRC32C; every count is bounded by the
// bytes that are there.
import Engine

package enum ForwardCodec {
    package static let format: UInt8 = 1
    /// Of one message, over all its batches: a command of six bytes takes twenty times as much once
    /// it is decoded.
    package static let commandsMax = 1 << 16
    private static let checksumBytes = 4

    // MARK: Request

    package static func encode(_ batches: [CommandBatch]) -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(format)
        writer.writeVarint(UInt64(batches.count))
        for batch in batches {
            writer.write(batch.version.rawValue)
            writer.writeVarint(UInt64(batch.commands.count))
            for routed in batch.commands { encode(routed.command, into: &writer) }
        }
        return sealed(writer)
    }

    private static func encode(_ command: ClientCommand, into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(command.count))
        for index in 0..<command.count { command.withBytes(index) { writer.writePrefixed($0) } }
    }

    /// Commands that the table of this node does not know, or does not evaluate, are refused whole:
    /// the sender may be of another version.
    package static func decodeRequest(_ bytes: [UInt8]) throws(DecodingError) -> [CommandBatch] {
        try opened(bytes) { (reader) throws(DecodingError) -> [CommandBatch] in
            let count = try reader.readVarint(
                atMost: UInt64(min(reader.remaining / 2, commandsMax)), "a batch count")
            var batches: [CommandBatch] = []
            var left = commandsMax
            for _ in 0..<count {
                let batch = try decodeBatch(&reader, atMost: left)
                left -= batch.commands.count
                batches.append(batch)
            }
            return batches
        }
    }

    private static func decodeBatch(
        _ reader: inout ByteReader, atMost limit: Int
    ) throws(DecodingError) -> CommandBatch {
        guard let version = RESPVersion(rawValue: try reader.read(UInt8.self)) else {
            throw DecodingError("a protocol version")
        }
        // A command takes at least two bytes.
        let count = try reader.readVarint(
            atMost: UInt64(min(reader.remaining / 2, limit)), "a command count")
        var commands: [RoutedCommand] = []
        for _ in 0..<count {
            let command = try decodeCommand(&reader)
            guard
                case .found(let id) = CommandTable.shared.resolve(
                    command, keyBytes: Limits.keyBytes),
                case let routed = RoutedCommand(id: id, command: command), routed.isEvaluable
            else { throw DecodingError("the leader does not evaluate '\(command.text(0))'") }
            commands.append(routed)
        }
        return CommandBatch(version: version, commands: commands)
    }

    private static func decodeCommand(
        _ reader: inout ByteReader
    ) throws(DecodingError) -> ClientCommand {
        let limit = min(RESPSettings.argumentsMax, reader.remaining)
        let count = try reader.readVarint(atMost: UInt64(limit), "an argument count")
        guard count > 0 else { throw DecodingError("a command without a name") }
        var command = ClientCommand()
        for index in 0..<count {
            let argument = try reader.readPrefixed(atMost: Limits.valueBytesMax)
            command.appendPartial(
                argument, expected: argument.count, isLast: index + 1 == count)
            command.endArgument()
        }
        return command
    }

    // MARK: Reply

    private enum Status {
        static let replied: UInt8 = 0
        static let notEvaluated: UInt8 = 1
    }

    package static func encode(_ result: EvaluationResult) -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(format)
        switch result {
        case .replied(let bundle):
            writer.write(Status.replied)
            writer.write(bundle.writeIndex.rawValue)
            writer.writeVarint(UInt64(bundle.ends.count))
            var start = 0
            for end in bundle.ends {
                writer.writeVarint(UInt64(end - start))
                start = end
            }
            writer.write(raw: bundle.bytes)
        case .notEvaluated(let reason):
            writer.write(Status.notEvaluated)
            writer.writePrefixed(String(reason.prefix(256)))
        }
        return sealed(writer)
    }

    package static func decodeReply(_ bytes: [UInt8]) throws(DecodingError) -> EvaluationResult {
        try opened(bytes) { (reader) throws(DecodingError) -> EvaluationResult in
            switch try reader.read(UInt8.self) {
            case Status.replied: return .replied(try decodeBundle(&reader))
            case Status.notEvaluated: return .notEvaluated(reason: try reader.readPrefixedString())
            case let status: throw DecodingError("forward status \(status)")
            }
        }
    }

    private static func decodeBundle(
        _ reader: inout ByteReader
    ) throws(DecodingError) -> ReplyBundle {
        let writeIndex = LogIndex(try reader.read(UInt64.self))
        // A reply takes at least its length.
        let count = try reader.readVarint(atMost: UInt64(reader.remaining), "a reply count")
        var ends: [Int] = []
        var end = 0
        for _ in 0..<count {
            let length = try reader.readVarint(atMost: UInt64(reader.remaining), "a reply length")
            let (sum, overflow) = end.addingReportingOverflow(length)
            guard !overflow else { throw DecodingError("reply lengths") }
            end = sum
            ends.append(end)
        }
        return ReplyBundle(
            bytes: [UInt8](try reader.readBytes(end)), ends: ends, writeIndex: writeIndex)
    }

    // MARK: Envelope

    private static func sealed(_ writer: ByteWriter) -> [UInt8] {
        var writer = writer
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    private static func opened<T>(
        _ bytes: [UInt8], _ body: (inout ByteReader) throws(DecodingError) -> T
    ) throws(DecodingError) -> T {
        guard bytes.count > checksumBytes else { throw DecodingError("a forward message is short") }
        let result = bytes.withUnsafeBytes { raw in
            Result { () throws(DecodingError) -> T in
                let content = UnsafeRawBufferPointer(rebasing: raw.dropLast(checksumBytes))
                var trailer = ByteReader(
                    UnsafeRawBufferPointer(rebasing: raw.suffix(checksumBytes)))
                guard try trailer.read(UInt32.self) == Checksum.crc32c(content) else {
                    throw DecodingError("a forward message's checksum")
                }
                var reader = ByteReader(content)
                guard try reader.read(UInt8.self) == format else {
                    throw DecodingError("a forward message's format")
                }
                let value = try body(&reader)
                try reader.expectEnd("a forward message")
                return value
            }
        }
        return try result.get()
    }
}
