// Options of SET, EXPIRE and the range commands, parsed in Redis's order with Redis's errors. Pure.
import Engine

/// A relative time as an absolute one. Nil unless it is positive and fits 63 bits.
func expiryTime(
    _ amount: Int64, unit: Int64, from now: ClockMilliseconds
) -> ClockMilliseconds? {
    guard amount > 0 else { return nil }
    let (milliseconds, overflow) = amount.multipliedReportingOverflow(by: unit)
    let (time, overflowToo) = milliseconds.addingReportingOverflow(Int64(clamping: now))
    guard !overflow, !overflowToo else { return nil }
    return ClockMilliseconds(time)
}

/// The error reply to a request that is wrong in itself.
struct OptionRefusal: Error, Sendable {
    var text: String
}

/// `SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]`
struct SetOptions: Sendable {
    typealias Refusal = OptionRefusal

    enum Condition: Sendable { case exists, absent }

    private(set) var condition: Condition?
    private(set) var returnsOldValue = false
    private(set) var keepsExpiry = false
    private(set) var expiry: ClockMilliseconds?

    var needsOldValue: Bool { condition != nil || returnsOldValue || keepsExpiry }

    private enum Time: Sendable { case ex, px, exat, pxat }

    init(_ command: ClientCommand, now: ClockMilliseconds) throws(Refusal) {
        var time: (kind: Time, index: Int)?
        var index = 3
        while index < command.count {
            if command.matches(index, "NX"), condition == nil {
                condition = .absent
            } else if command.matches(index, "XX"), condition == nil {
                condition = .exists
            } else if command.matches(index, "GET") {
                returnsOldValue = true
            } else if command.matches(index, "KEEPTTL"), time == nil {
                keepsExpiry = true
            } else if let kind = SetOptions.time(command, index), !keepsExpiry,
                // The same option twice is allowed; the last counts.
                time.map({ $0.kind == kind }) ?? true, index + 1 < command.count
            {
                time = (kind, index + 1)
                index += 1
            } else if !isRepeated(command, index) {
                throw Refusal(text: ReplyText.syntax)
            }
            index += 1
        }
        if let time { expiry = try SetOptions.expiry(command, time, now: now) }
    }

    /// The same condition twice is allowed; the opposite one is not.
    private func isRepeated(_ command: ClientCommand, _ index: Int) -> Bool {
        switch condition {
        case .absent: return command.matches(index, "NX")
        case .exists: return command.matches(index, "XX")
        case nil: return false
        }
    }

    private static func time(_ command: ClientCommand, _ index: Int) -> Time? {
        if command.matches(index, "EX") { return .ex }
        if command.matches(index, "PX") { return .px }
        if command.matches(index, "EXAT") { return .exat }
        if command.matches(index, "PXAT") { return .pxat }
        return nil
    }

    private static func expiry(
        _ command: ClientCommand, _ time: (kind: Time, index: Int), now: ClockMilliseconds
    ) throws(Refusal) -> ClockMilliseconds {
        guard let amount = command.integer(time.index) else {
            throw Refusal(text: ReplyText.notInteger)
        }
        let unit: Int64 = time.kind == .ex || time.kind == .exat ? 1000 : 1
        let start = time.kind == .ex || time.kind == .px ? now : 0
        guard let expiry = expiryTime(amount, unit: unit, from: start) else {
            throw Refusal(text: "ERR invalid expire time in 'set' command")
        }
        return expiry
    }
}

/// `EXPIRE key seconds [NX|XX|GT|LT]`
struct ExpireRule: Sendable {
    typealias Refusal = OptionRefusal

    private var whenAbsent = false
    private var whenPresent = false
    private var whenGreater = false
    private var whenLess = false

    init(_ command: ClientCommand) throws(Refusal) {
        for index in 3..<max(3, command.count) {
            if command.matches(index, "NX") {
                whenAbsent = true
            } else if command.matches(index, "XX") {
                whenPresent = true
            } else if command.matches(index, "GT") {
                whenGreater = true
            } else if command.matches(index, "LT") {
                whenLess = true
            } else {
                throw Refusal(text: "ERR Unsupported option \(command.text(index))")
            }
        }
        if whenAbsent, whenPresent || whenGreater || whenLess {
            throw Refusal(
                text: "ERR NX and XX, GT or LT options at the same time are not compatible")
        }
        if whenGreater, whenLess {
            throw Refusal(text: "ERR GT and LT options at the same time are not compatible")
        }
    }

    /// No expiry counts as one that never comes.
    func allows(_ expiry: ClockMilliseconds, replacing old: ClockMilliseconds?) -> Bool {
        if whenAbsent, old != nil { return false }
        if whenPresent, old == nil { return false }
        if whenGreater { return old.map { expiry > $0 } ?? false }
        if whenLess { return old.map { expiry < $0 } ?? true }
        return true
    }
}

/// `start end` of MT.RANGE and MT.DELRANGE: arguments 1 and 2, `-` and `+` unbounded.
enum RangeBounds {
    static func span(_ command: ClientCommand) -> Result<KeySpan, OptionRefusal> {
        for index in 1...2 where command.byteCount(index) > Limits.keyBytes {
            return .failure(
                OptionRefusal(
                    text: "ERR key is \(command.byteCount(index)) bytes, above the limit of "
                        + "\(Limits.keyBytes)"))
        }
        let start = command.matches(1, "-") ? [] : command.array(1)
        let end = command.matches(2, "+") ? nil : command.array(2)
        return .success(KeySpan(start: start, end: end))
    }
}

/// `MT.RANGE start end [REVERSE] [LIMIT n]`
struct RangeOptions: Sendable {
    static let pairsDefault = 1000

    var span: KeySpan
    var isReverse = false
    var limit = RangeOptions.pairsDefault

    init(_ command: ClientCommand) throws(OptionRefusal) {
        span = try RangeBounds.span(command).get()
        var index = 3
        while index < command.count {
            if command.matches(index, "REVERSE") {
                isReverse = true
            } else if command.matches(index, "LIMIT"), index + 1 < command.count {
                guard let amount = command.integer(index + 1) else {
                    throw OptionRefusal(text: ReplyText.notInteger)
                }
                guard amount >= 0 else {
                    throw OptionRefusal(text: "ERR value is out of range, must be positive")
                }
                limit = Int(amount)
                index += 1
            } else {
                throw OptionRefusal(text: ReplyText.syntax)
            }
            index += 1
        }
    }
}
