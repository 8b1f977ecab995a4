// Keeps a peer that is refused once a second from filling the log: a line goes out at once when its
// text is new for its key, and again once a minute with the number of times it was held back. Pure.

package struct LogThrottle: Sendable {
    private struct Seen: Sendable {
        var text: String
        var at: UInt64
        var heldBack: Int
    }

    private static let repeatMilliseconds: UInt64 = 60_000
    /// Keys come from addresses of strangers; more than this and the memory starts over.
    private static let keysMax = 512

    private var seen: [String: Seen] = [:]

    package init() {}

    /// How many equal lines were held back since the last one that went out; nil to stay silent.
    package mutating func admit(_ text: String, key: String, now: UInt64) -> Int? {
        guard var entry = seen[key], entry.text == text else {
            if seen.count >= LogThrottle.keysMax { seen.removeAll() }
            seen[key] = Seen(text: text, at: now, heldBack: 0)
            return 0
        }
        guard now >= entry.at + LogThrottle.repeatMilliseconds else {
            entry.heldBack += 1
            seen[key] = entry
            return nil
        }
        seen[key] = Seen(text: text, at: now, heldBack: 0)
        return entry.heldBack
    }

    /// What is logged next for `key` is news again.
    package mutating func forget(_ key: String) { seen[key] = nil }
}
