// Commands that may write, evaluated on the leader: what they answer and which effects they have.
// Effects only: the log never carries a condition, a relative time or an increment. State is read
// through the overlay of writes in flight and then the applied state, on the leader's clock.
//
// A command reads everything before it notes an effect, so that a failed read leaves none behind.
import Engine

/// One command in evaluation, and the scratch space that is reused for the next.
package struct Evaluation {
    /// What a command does to the state.
    package enum Effect {
        case put(Overlay.Key, Overlay.Value)
        case delete(Overlay.Key)
        case deleteRange(KeySpan)

        /// About its bytes in a batch.
        var byteCount: Int {
            switch self {
            case .put(let key, let value): return key.bytes.count + value.bytes.count + 24
            case .delete(let key): return key.bytes.count + 12
            case .deleteRange(let span): return span.start.count + (span.end?.count ?? 0) + 24
            }
        }
    }

    package let reader: any KeyValueReader
    package var now: ClockMilliseconds
    package var overlay: Overlay
    package var writer = RESPWriter(version: .two)
    /// Effects of the current command.
    package var effects: [Effect] = []
    /// The highest proposal in flight that an answer since the last reset was read from.
    package var dependency: UInt64 = 0

    package init(reader: any KeyValueReader, overlay: Overlay) {
        self.reader = reader
        self.overlay = overlay
        now = 0
    }

    /// Answers `command` into `writer` and leaves its effects in `effects`.
    package mutating func evaluate(_ id: CommandID, _ command: ClientCommand) {
        effects.removeAll(keepingCapacity: true)
        let mark = writer.count
        let size = command.bytes.count + 24 * command.count
        guard size <= Limits.entryPayloadBytes else {
            return writer.error(ReplyText.commandTooLong(size))
        }
        do throws(EngineError) {
            try dispatch(id, command)
        } catch {
            effects.removeAll(keepingCapacity: true)
            writer.rewind(to: mark)
            writer.error(ReplyText.of(error))
        }
    }

    private mutating func dispatch(
        _ id: CommandID, _ command: ClientCommand
    ) throws(EngineError) {
        switch id {
        case .set: try set(command)
        case .setnx: try setIfAbsent(command)
        case .setex: setExpiring(command, unit: 1000, name: "setex")
        case .psetex: setExpiring(command, unit: 1, name: "psetex")
        case .mset: setMany(command)
        case .incr: try add(command, 1)
        case .decr: try add(command, -1)
        case .incrby: try addArgument(command, isNegated: false)
        case .decrby: try addArgument(command, isNegated: true)
        case .del, .unlink: try delete(command)
        case .expire: try expire(command, unit: 1000, name: "expire")
        case .pexpire: try expire(command, unit: 1, name: "pexpire")
        case .persist: try persist(command)
        case .flushall, .flushdb: flush(command)
        case .mtDelrange: deleteRange(command)
        case .get, .exists, .ttl, .pttl, .type, .ping: try answer(id, command)
        default:
            throw .invalid(reason: "the leader does not evaluate '\(command.text(0))'")
        }
    }

    /// The newest value of a key, in flight or applied.
    private mutating func read(_ key: Overlay.Key) throws(EngineError) -> Overlay.Value? {
        switch overlay.lookup(key, now: now) {
        case .live(let value, let proposal):
            dependency = max(dependency, proposal)
            return value
        case .absent(let proposal):
            dependency = max(dependency, proposal)
            return nil
        case .unknown:
            let found = try reader.get(key.bytes, now: now, io: .blocking)
            return found.map { Overlay.Value(bytes: $0.value[...], expiry: $0.expiry) }
        }
    }

    /// Commands without effects that stand between writes of one connection: answered here they
    /// keep their place in the order, and no write has to wait for them.
    private mutating func answer(
        _ id: CommandID, _ command: ClientCommand
    ) throws(EngineError) {
        switch id {
        case .ping: return writer.simple("PONG")
        case .exists:
            var count = 0
            for index in 1..<command.count
            where try read(Overlay.Key(command.array(index))) != nil {
                count += 1
            }
            return writer.integer(count)
        default: break
        }
        let found = try read(Overlay.Key(command.array(1)))
        switch id {
        case .get: if let found { writer.bulk(found.bytes) } else { writer.null() }
        case .type: writer.simple(found == nil ? "none" : "string")
        case .ttl: writer.integer(timeToLive(of: found.map(\.expiry), now: now, unit: 1000))
        default: writer.integer(timeToLive(of: found.map(\.expiry), now: now, unit: 1))
        }
    }

    private mutating func put(
        _ key: Overlay.Key, _ value: ArraySlice<UInt8>, expiry: ClockMilliseconds? = nil
    ) {
        // A time that has come already: what it would leave behind is nothing.
        if let expiry, expiry <= now {
            effects.append(.delete(key))
        } else {
            effects.append(.put(key, Overlay.Value(bytes: value, expiry: expiry)))
        }
    }
}

// MARK: - Strings

extension Evaluation {
    private mutating func set(_ command: ClientCommand) throws(EngineError) {
        let options: SetOptions
        do throws(SetOptions.Refusal) {
            options = try SetOptions(command, now: now)
        } catch {
            return writer.error(error.text)
        }
        let key = Overlay.Key(command.array(1))
        // A blind SET reads nothing.
        let old = options.needsOldValue ? try read(key) : nil
        let isWritten = options.condition.map { ($0 == .exists) == (old != nil) } ?? true
        if isWritten {
            put(key, command[2], expiry: options.keepsExpiry ? old?.expiry : options.expiry)
        }
        if options.returnsOldValue {
            if let old { writer.bulk(old.bytes) } else { writer.null() }
        } else if isWritten {
            writer.ok()
        } else {
            writer.null()
        }
    }

    private mutating func setIfAbsent(_ command: ClientCommand) throws(EngineError) {
        let key = Overlay.Key(command.array(1))
        guard try read(key) == nil else { return writer.integer(0) }
        put(key, command[2])
        writer.integer(1)
    }

    private mutating func setExpiring(_ command: ClientCommand, unit: Int64, name: StaticString) {
        guard let amount = command.integer(2) else { return writer.error(ReplyText.notInteger) }
        guard let expiry = expiryTime(amount, unit: unit, from: now) else {
            return writer.error("ERR invalid expire time in '\(name)' command")
        }
        put(Overlay.Key(command.array(1)), command[3], expiry: expiry)
        writer.ok()
    }

    private mutating func setMany(_ command: ClientCommand) {
        guard command.count % 2 == 1 else { return writer.error(CommandTable.wrongArity("mset")) }
        for index in stride(from: 1, to: command.count, by: 2) {
            put(Overlay.Key(command.array(index)), command[index + 1])
        }
        writer.ok()
    }

    private mutating func addArgument(
        _ command: ClientCommand, isNegated: Bool
    ) throws(EngineError) {
        guard let amount = command.integer(2) else { return writer.error(ReplyText.notInteger) }
        guard isNegated else { return try add(command, amount) }
        guard amount != .min else { return writer.error("ERR decrement would overflow") }
        try add(command, -amount)
    }

    private mutating func add(_ command: ClientCommand, _ amount: Int64) throws(EngineError) {
        let key = Overlay.Key(command.array(1))
        let old = try read(key)
        var value: Int64 = 0
        if let old {
            guard let number = old.bytes.withUnsafeBytes({ parseInteger($0) }) else {
                return writer.error(ReplyText.notInteger)
            }
            value = number
        }
        let (sum, overflow) = value.addingReportingOverflow(amount)
        guard !overflow else {
            return writer.error("ERR increment or decrement would overflow")
        }
        put(key, decimalBytes(sum)[...], expiry: old?.expiry)
        writer.integer(sum)
    }
}

// MARK: - Keys

extension Evaluation {
    private mutating func delete(_ command: ClientCommand) throws(EngineError) {
        var seen: Set<Overlay.Key> = []
        for index in 1..<command.count {
            let key = Overlay.Key(command.array(index))
            // A key that is named twice is deleted once.
            guard command.count == 2 || seen.insert(key).inserted else { continue }
            if try read(key) != nil { effects.append(.delete(key)) }
        }
        writer.integer(effects.count)
    }

    private mutating func expire(
        _ command: ClientCommand, unit: Int64, name: StaticString
    ) throws(EngineError) {
        let rule: ExpireRule
        do throws(ExpireRule.Refusal) {
            rule = try ExpireRule(command)
        } catch {
            return writer.error(error.text)
        }
        guard let amount = command.integer(2) else { return writer.error(ReplyText.notInteger) }
        let (milliseconds, overflow) = amount.multipliedReportingOverflow(by: unit)
        let (time, overflowToo) = milliseconds.addingReportingOverflow(Int64(clamping: now))
        guard !overflow, !overflowToo else {
            return writer.error("ERR invalid expire time in '\(name)' command")
        }
        // A time before 1970 is as past as any.
        let expiry = ClockMilliseconds(max(time, 0))
        let key = Overlay.Key(command.array(1))
        guard let old = try read(key), rule.allows(expiry, replacing: old.expiry) else {
            return writer.integer(0)
        }
        put(key, old.bytes, expiry: expiry)
        writer.integer(1)
    }

    private mutating func persist(_ command: ClientCommand) throws(EngineError) {
        let key = Overlay.Key(command.array(1))
        guard let old = try read(key), old.expiry != nil else { return writer.integer(0) }
        put(key, old.bytes)
        writer.integer(1)
    }

    private mutating func flush(_ command: ClientCommand) {
        let isValid =
            command.count == 1
            || (command.count == 2 && (command.matches(1, "ASYNC") || command.matches(1, "SYNC")))
        guard isValid else { return writer.error(ReplyText.syntax) }
        effects.append(.deleteRange(.everything))
        writer.ok()
    }

    private mutating func deleteRange(_ command: ClientCommand) {
        switch RangeBounds.span(command) {
        case .failure(let refusal): writer.error(refusal.text)
        case .success(let span):
            if !span.isEmpty { effects.append(.deleteRange(span)) }
            writer.ok()
        }
    }
}
