// What the leader has proposed in this term and not yet applied: the difference between the applied
// state and the state that the next command must see. Pure. The evaluator owns it, puts every
// effect in, takes a proposal's effects out when it is applied (then the reader shows them), and
// drops all of it with the term.
//
// Proposal numbers only grow. A range delete leaves the point entries that it covers in place,
// since to look for them costs as much as there are; a lookup compares ages instead, so it costs as
// much as there are range deletes, which the evaluator bounds.
import Engine

package struct Overlay: Sendable {
    /// Bytes of a key, hashed and compared whole.
    package struct Key: Hashable, Sendable {
        package let bytes: [UInt8]
        package init(_ bytes: [UInt8]) { self.bytes = bytes }

        package func hash(into hasher: inout Hasher) {
            bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
        }
    }

    /// A value in flight; it shares the storage of the command that wrote it.
    package struct Value: Sendable {
        package var bytes: ArraySlice<UInt8>
        package var expiry: ClockMilliseconds?
        package init(bytes: ArraySlice<UInt8>, expiry: ClockMilliseconds? = nil) {
            self.bytes = bytes
            self.expiry = expiry
        }
    }

    private struct Point: Sendable {
        /// Nil: deleted.
        var value: Value?
        var proposal: UInt64
        /// Larger than of every effect before.
        var age: UInt64
    }

    private struct Range: Sendable {
        var span: KeySpan
        var proposal: UInt64
        var age: UInt64
    }

    /// What the overlay knows of a key.
    package enum Lookup: Sendable {
        /// Nothing: the applied state answers.
        case unknown
        case live(Value, proposal: UInt64)
        case absent(proposal: UInt64)
    }

    /// The term whose proposals are in here.
    package private(set) var term: Term
    private var points: [Key: Point] = [:]
    /// Oldest first.
    private var ranges: [Range] = []
    /// Keys that each proposal touched, oldest proposal first: what to look at when it is applied.
    private var touched: [(proposal: UInt64, keys: [Key])] = []
    private var touchedHead = 0
    private var effects: UInt64 = 0

    package init(term: Term) { self.term = term }

    package var isEmpty: Bool { points.isEmpty && ranges.isEmpty }
    /// Range deletes in flight, not counting those before one of everything.
    package var rangeCount: Int { ranges.count }

    package func lookup(_ key: Key, now: ClockMilliseconds) -> Lookup {
        let point = points[key]
        // Newest first: the youngest proposal that hides the key is the one to wait for.
        for range in ranges.reversed() {
            if let point, range.age < point.age { break }
            if range.span.contains(key.bytes) { return .absent(proposal: range.proposal) }
        }
        guard let point else { return .unknown }
        guard let value = point.value, value.expiry.map({ $0 > now }) ?? true else {
            return .absent(proposal: point.proposal)
        }
        return .live(value, proposal: point.proposal)
    }

    package mutating func put(_ key: Key, _ value: Value, proposal: UInt64) {
        points[key] = Point(value: value, proposal: proposal, age: nextAge())
        touch(key, proposal)
    }

    package mutating func delete(_ key: Key, proposal: UInt64) {
        points[key] = Point(value: nil, proposal: proposal, age: nextAge())
        touch(key, proposal)
    }

    package mutating func deleteRange(_ span: KeySpan, proposal: UInt64) {
        if span == .everything { ranges.removeAll() }
        ranges.append(Range(span: span, proposal: proposal, age: nextAge()))
    }

    private mutating func nextAge() -> UInt64 {
        effects += 1
        return effects
    }

    /// `proposal` is applied and visible to readers; proposals are applied in their order, so all
    /// before it are too.
    package mutating func remove(through proposal: UInt64) {
        while touchedHead < touched.count, touched[touchedHead].proposal <= proposal {
            for key in touched[touchedHead].keys {
                if let point = points[key], point.proposal <= proposal {
                    points.removeValue(forKey: key)
                }
            }
            touched[touchedHead].keys = []
            touchedHead += 1
        }
        if touchedHead == touched.count {
            touched.removeAll(keepingCapacity: true)
            touchedHead = 0
        } else if touchedHead > 1024 {
            touched.removeFirst(touchedHead)
            touchedHead = 0
        }
        if !ranges.isEmpty { ranges.removeAll { $0.proposal <= proposal } }
    }

    /// Forgets everything: the term ended, or a proposal that others built on was refused.
    package mutating func reset(term: Term) {
        self = Overlay(term: term)
    }

    private mutating func touch(_ key: Key, _ proposal: UInt64) {
        if touched.count > touchedHead, touched[touched.count - 1].proposal == proposal {
            touched[touched.count - 1].keys.append(key)
        } else {
            invariant(
                touched.last.map { $0.proposal < proposal } ?? true,
                "proposal \(proposal) came after a later one")
            touched.append((proposal, [key]))
        }
    }
}
