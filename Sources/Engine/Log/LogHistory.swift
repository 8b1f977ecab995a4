// What the log remembers about its entries without reading them: the terms, as runs, and the
// settings in force. Both follow appends and truncations.

struct TermRuns: Sendable {
    private(set) var runs: [TermRun] = []

    mutating func append(_ term: Term, at index: LogIndex) {
        if let last = runs.last, last.term == term { return }
        runs.append(TermRun(term: term, first: index))
    }

    mutating func append(_ other: [TermRun]) {
        for run in other { append(run.term, at: run.first) }
    }

    mutating func truncate(after index: LogIndex) {
        while let last = runs.last, last.first > index { runs.removeLast() }
    }

    mutating func trim(before index: LogIndex) {
        let keep = runs.lastIndex { $0.first <= index } ?? 0
        runs.removeFirst(keep)
        if let first = runs.first, first.first < index { runs[0].first = index }
    }

    func term(at index: LogIndex) -> Term? {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].first <= index { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? runs[low - 1].term : nil
    }

    /// The runs within `lower...upper`, clipped.
    func slice(_ lower: LogIndex, _ upper: LogIndex) -> [TermRun] {
        var part = self
        part.truncate(after: upper)
        part.trim(before: lower)
        return part.runs
    }
}

/// Settings by the entries that set them, committed or not.
struct SettingsHistory: Sendable {
    private var base: LoggedSettings
    private var changes: [(index: LogIndex, settings: LoggedSettings)] = []

    init(base: LoggedSettings) { self.base = base }

    mutating func append(_ settings: LoggedSettings, at index: LogIndex) {
        changes.append((index, settings))
    }

    /// Inserts one that was missing.
    mutating func insert(_ settings: LoggedSettings, at index: LogIndex) {
        changes.removeAll { $0.index == index }
        let place = changes.firstIndex { $0.index > index } ?? changes.count
        changes.insert((index, settings), at: place)
    }

    mutating func truncate(after index: LogIndex) { changes.removeAll { $0.index > index } }

    /// Folds changes at or below `index` into the base; nobody asks below it any more.
    mutating func trim(through index: LogIndex) {
        while let first = changes.first, first.index <= index {
            base = first.settings
            changes.removeFirst()
        }
    }

    /// In force before the entry at `index`.
    func before(_ index: LogIndex) -> LoggedSettings {
        changes.last { $0.index < index }?.settings ?? base
    }
}
