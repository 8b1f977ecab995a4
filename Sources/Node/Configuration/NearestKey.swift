// "Did you mean": the known key that needs the fewest edits. Plain Levenshtein with a swap of
// neighbours counted as one edit; keys are short and few, so nothing clever is needed.

package enum NearestKey {
    /// The known key closest to `key`, or nil if none is close enough to be meant. A key whose last
    /// part equals a known key's last part counts as close (`sync` finds `log.sync`), and so does
    /// the beginning of just one key.
    package static func suggestion(for key: String, among known: [String]) -> String? {
        let wanted = canonical(key)
        var best: (key: String, distance: Int)?
        for candidate in known {
            let distance = editDistance(wanted, canonical(candidate))
            if distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        let begun = known.filter { canonical($0).starts(with: wanted) }
        if begun.count == 1, wanted.count >= 3 { return begun[0] }
        if let best, best.distance <= max(2, wanted.count / 3) { return best.key }
        return known.first { lastPart($0) == lastPart(key) } ?? sameLetters(wanted, among: known)
    }

    /// Edits (insert, delete, replace, swap of neighbours) that turn one text into the other.
    package static func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
        var beforePrevious = [Int](repeating: 0, count: right.count + 1)
        var previous = Array(0...right.count)
        for row in 1...left.count {
            var current = [Int](repeating: row, count: right.count + 1)
            for column in 1...right.count {
                let replace = left[row - 1] == right[column - 1] ? 0 : 1
                var cost = min(
                    previous[column] + 1, current[column - 1] + 1, previous[column - 1] + replace)
                if row > 1, column > 1, left[row - 1] == right[column - 2],
                    left[row - 2] == right[column - 1]
                {
                    cost = min(cost, beforePrevious[column - 2] + 1)
                }
                current[column] = cost
            }
            (beforePrevious, previous) = (previous, current)
        }
        return previous[right.count]
    }

    private static func canonical(_ key: String) -> [UInt8] {
        key.lowercased().utf8.map { $0 == UInt8(ascii: "_") ? UInt8(ascii: "-") : $0 }
    }

    private static func lastPart(_ key: String) -> Substring {
        key.split(separator: ".").last ?? ""
    }

    /// `segmentBytes` or `log.segmentbytes` for `log.segment-bytes`: dots and dashes left out.
    private static func sameLetters(_ wanted: [UInt8], among known: [String]) -> String? {
        func letters(_ bytes: some Sequence<UInt8>) -> [UInt8] {
            bytes.filter { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "-") }
        }
        let plain = letters(wanted)
        guard plain.count >= 4 else { return nil }
        return known.first { key in
            let candidate = letters(key.utf8)
            return candidate.count >= plain.count && candidate.suffix(plain.count) == plain[...]
        }
    }
}
