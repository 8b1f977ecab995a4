// Commands that only read, executed on any node against the local store once a read is confirmed:
// on the event loop as long as memory answers, else on the read pool. A failed command leaves
// nothing of its reply; damage is an error reply that names it, never "no value". All commands of a
// run read one pinned state.
import Engine

/// Replies to the commands of a batch before `next`.
struct BatchAnswer: Sendable {
    var bytes: [UInt8]
    var next: Int
    var hits = 0
    var misses = 0
}

package struct ReadRun: Sendable {
    /// Keys of one command that an event loop looks up; a longer one goes to the pool.
    private static let keysOnLoop = 128

    package enum Stop: Sendable, Equatable {
        /// Every command is answered.
        case finished
        /// The command at `next` needs the disk.
        case wouldBlock
        /// The replies reached the size at which they are better sent first.
        case full
    }

    package let reader: any KeyValueReader
    package let now: ClockMilliseconds
    package let settings: RESPSettings
    package var writer: RESPWriter
    /// The first command that is not answered.
    package var next = 0
    package var hits = 0
    package var misses = 0

    package init(
        reader: any KeyValueReader, now: ClockMilliseconds, settings: RESPSettings,
        version: RESPVersion
    ) {
        self.reader = reader
        self.now = now
        self.settings = settings
        writer = RESPWriter(version: version)
    }

    var answer: BatchAnswer {
        BatchAnswer(bytes: writer.bytes, next: next, hits: hits, misses: misses)
    }

    /// Answers commands from `next` on.
    package mutating func run(_ commands: [RoutedCommand], io: ReadIO) -> Stop {
        while next < commands.count {
            let routed = commands[next]
            let mark = writer.count
            do throws(EngineError) {
                try dispatch(routed.id, routed.command, io)
            } catch {
                writer.rewind(to: mark)
                if case .wouldBlock = error, io == .cacheOnly { return .wouldBlock }
                writer.error(ReplyText.of(error))
            }
            next += 1
            if writer.count >= settings.batchBytes, next < commands.count { return .full }
        }
        return .finished
    }

    private mutating func dispatch(
        _ id: CommandID, _ command: ClientCommand, _ io: ReadIO
    ) throws(EngineError) {
        if io == .cacheOnly, command.count > ReadRun.keysOnLoop { throw .wouldBlock }
        switch id {
        case .get:
            if let found = try get(command, 1, io) {
                writer.bulk(found.value)
            } else {
                writer.null()
            }
        case .mget: try getMany(command, io)
        case .exists:
            var count = 0
            for index in 1..<command.count where try get(command, index, io) != nil { count += 1 }
            writer.integer(count)
        case .ttl:
            writer.integer(
                timeToLive(of: try get(command, 1, io).map(\.expiry), now: now, unit: 1000))
        case .pttl:
            writer.integer(timeToLive(of: try get(command, 1, io).map(\.expiry), now: now, unit: 1))
        case .type:
            if try get(command, 1, io) != nil {
                writer.simple("string")
            } else {
                writer.simple("none")
            }
        case .mtRange: try range(command, io)
        default: throw .invalid(reason: "'\(command.text(0))' is not a read")
        }
    }

    private mutating func get(
        _ command: ClientCommand, _ index: Int, _ io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        let found = try reader.get(command.array(index), now: now, io: io)
        if found == nil { misses += 1 } else { hits += 1 }
        return found
    }

    private mutating func getMany(_ command: ClientCommand, _ io: ReadIO) throws(EngineError) {
        let start = writer.count
        writer.array(command.count - 1)
        for index in 1..<command.count {
            if let found = try get(command, index, io) {
                writer.bulk(found.value)
            } else {
                writer.null()
            }
            let size = writer.count - start
            if size > settings.outputBytes, index + 1 < command.count {
                throw .limit(
                    what: "a reply", value: UInt64(size), limit: UInt64(settings.outputBytes))
            }
        }
    }

    private mutating func range(_ command: ClientCommand, _ io: ReadIO) throws(EngineError) {
        let options: RangeOptions
        do throws(OptionRefusal) {
            options = try RangeOptions(command)
        } catch {
            return writer.error(error.text)
        }
        guard options.limit > 0, !options.span.isEmpty else { return writer.array(0) }
        // A scan may always touch the disk.
        if io == .cacheOnly { throw .wouldBlock }
        let pairs = try reader.scan(
            options.span, reverse: options.isReverse, limit: options.limit,
            limitBytes: settings.rangeBytes, now: now)
        writer.array(pairs.count * 2)
        for pair in pairs {
            writer.bulk(pair.key)
            writer.bulk(pair.value.value)
        }
    }
}

/// What TTL (`unit` 1000) and PTTL (1) answer of a live value: -2 without one, -1 without an
/// expiry, as Redis; seconds are rounded to the nearest.
func timeToLive(of expiry: ClockMilliseconds??, now: ClockMilliseconds, unit: UInt64) -> Int64 {
    guard let found = expiry else { return -2 }
    guard let expiry = found else { return -1 }
    let left = expiry > now ? expiry - now : 0
    return Int64(clamping: unit == 1 ? left : left / unit + (left % unit >= unit / 2 ? 1 : 0))
}
