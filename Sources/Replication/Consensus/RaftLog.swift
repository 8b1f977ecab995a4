// The log as consensus sees it: where it starts and ends, and which term each index has. Terms are
// kept as runs, so memory is O(terms), never O(entries). Entries themselves are in the log proper.
//
// Invariants: runs ascend in both term and first index; the first run starts at `base + 1`; the
// log is empty exactly when there are no runs.
import Engine

package struct RaftLog: Sendable {
    /// The index before the first entry; everything through it is committed.
    package private(set) var base: LogIndex
    /// Nil if nobody remembers it: then the first entry cannot be shipped, only those after it.
    package private(set) var baseTerm: Term?
    package private(set) var last: LogIndex
    package private(set) var runs: [TermRun]
    /// In order and apart. What `runs` say of them is a guess.
    package private(set) var lost: [LostTerms] = []

    package var first: LogIndex { base + 1 }
    package var lastTerm: Term { runs.last?.term ?? baseTerm ?? .zero }

    /// An empty log that starts behind `base`.
    package init(base: LogIndex = .zero, baseTerm: Term? = .zero) {
        self.base = base
        self.baseTerm = baseTerm
        last = base
        runs = []
    }

    /// `runs` may start before `first`: then they also tell the term before it. They may start
    /// behind it, where the first entries are lost and their terms with them: these count as of the
    /// term before until they are mended. An empty log has `last == first - 1`.
    /// `holes` are the lost entries among them.
    package init(
        first: LogIndex, last: LogIndex, runs: [TermRun], baseTerm: Term? = nil,
        holes: [LogHole] = []
    ) {
        invariant(first > .zero && last + 1 >= first, "the log ends at \(last), before its start")
        base = first - 1
        self.baseTerm = base == .zero ? .zero : baseTerm
        self.last = last
        self.runs = runs.filter { $0.first <= last }
        invariant(
            zip(self.runs, self.runs.dropFirst()).allSatisfy {
                $0.term < $1.term && $0.first < $1.first
            }, "term runs are out of order")
        if let found = self.runs.last(where: { $0.first <= base }) { self.baseTerm = found.term }
        dropRunsBeforeFirst()
        fillGap(first)
        invariant(last < first || self.runs.first?.first == first, "term runs leave a gap")
        lost = holes.compactMap { makeLost($0) }
        lost = lost.filter { !isBetweenEqualTerms($0) }
    }

    /// The last entry's term was promised with it.
    private func makeLost(_ hole: LogHole) -> LostTerms? {
        let lower = max(hole.lower, first)
        let isEndKnown = hole.upper == last
        guard lower <= hole.upper, hole.upper <= last, !isEndKnown || lower < hole.upper else {
            return nil
        }
        return LostTerms(
            lower: lower, upper: isEndKnown ? hole.upper - 1 : hole.upper,
            known: hole.checksum.map { LostTerms.Known(index: hole.upper, checksum: $0) })
    }

    /// Terms never fall, so entries between two of one term are of that term.
    private func isBetweenEqualTerms(_ range: LostTerms) -> Bool {
        guard range.upper < last, let before = term(at: range.lower - 1) else { return false }
        return before == term(at: range.upper + 1)
    }

    /// The term at `index`; nil outside the log, or where it is forgotten or lost.
    package func term(at index: LogIndex) -> Term? {
        lost.contains { $0.lower <= index && index <= $0.upper } ? nil : leastTerm(at: index)
    }

    /// The term at `index`, or the lowest that it can be where it is lost: terms never fall.
    func leastTerm(at index: LogIndex) -> Term? {
        if index == base { return baseTerm }
        guard index > base, index <= last else { return nil }
        return runs[run(at: index)].term
    }

    /// Adds one entry behind the last.
    package mutating func append(term: Term) {
        invariant(term >= lastTerm, "term \(term) appended behind term \(lastTerm)")
        last += 1
        if runs.last?.term != term { runs.append(TermRun(term: term, first: last)) }
    }

    private mutating func fillGap(_ first: LogIndex) {
        guard last >= first, runs.first?.first != first else { return }
        let term = baseTerm ?? .zero
        if let run = runs.first, run.term <= term {
            runs[0].first = first
        } else {
            runs.insert(TermRun(term: term, first: first), at: 0)
        }
    }

    /// The term of an entry that was lost is known now, and the content of the one before it. What
    /// it counted as until then was a guess.
    package mutating func place(term: Term, at index: LogIndex, previous: Digest128? = nil) {
        guard index > base, index <= last else { return }
        placeRun(term, index)
        var left: [LostTerms] = []
        for range in lost {
            guard range.lower <= index, index <= range.upper else {
                left.append(range)
                continue
            }
            if range.lower < index {
                let known = previous.map { LostTerms.Known(index: index - 1, checksum: $0) }
                left.append(LostTerms(lower: range.lower, upper: index - 1, known: known))
            }
            if index < range.upper {
                left.append(
                    LostTerms(lower: index + 1, upper: range.upper, known: range.known))
            }
        }
        lost = left
        lost = lost.filter { !isBetweenEqualTerms($0) }
    }

    /// An entry names the one before it by its content: so those of the leader that end with a lost
    /// one that is known are what this member has lost.
    package mutating func learn(from entries: [Entry]) {
        for range in lost.reversed() {
            guard let known = range.known, let front = entries.first?.index,
                known.index >= front, known.index - front < UInt64(entries.count),
                entries[Int(known.index - front)].header.checksum == known.checksum
            else { continue }
            for entry in entries[...Int(known.index - front)].reversed()
            where range.lower <= entry.index && entry.index <= range.upper {
                place(term: entry.term, at: entry.index, previous: entry.header.previous)
            }
        }
    }

    private mutating func placeRun(_ term: Term, _ index: LogIndex) {
        guard leastTerm(at: index) != term else { return }
        if let same = runs.firstIndex(where: { $0.term == term && $0.first > index }) {
            runs[same].first = index
        } else if let start = runs.firstIndex(where: { $0.first == index }) {
            runs[start].term = term
        } else {
            let place = runs.firstIndex { $0.first > index } ?? runs.count
            runs.insert(TermRun(term: term, first: index), at: place)
        }
        // A guess that covers nothing any more goes.
        var kept: [TermRun] = []
        for run in runs {
            if let before = kept.last, before.first == run.first { kept.removeLast() }
            if kept.last?.term != run.term { kept.append(run) }
        }
        runs = kept
    }

    /// Forgets every entry above `index`.
    package mutating func truncate(after index: LogIndex) {
        invariant(index >= base, "truncation after \(index), below the log's base \(base)")
        guard index < last else { return }
        last = index
        while let run = runs.last, run.first > index { runs.removeLast() }
        lost.removeAll { $0.lower > index }
        if let range = lost.last, range.upper > index || range.known?.index ?? .zero > index {
            lost[lost.count - 1] = LostTerms(lower: range.lower, upper: min(range.upper, index))
        }
    }

    /// Entries before `first` are gone. Does nothing if they were already.
    package mutating func trim(before first: LogIndex) {
        guard first > self.first, first <= last + 1 else { return }
        baseTerm = term(at: first - 1)
        base = first - 1
        dropRunsBeforeFirst()
        lost.removeAll { $0.upper < first }
        if !lost.isEmpty { lost[0].lower = max(lost[0].lower, first) }
    }

    /// Whether the entry behind `index` is lost and nothing tells that it was never committed. If
    /// it is known by its content, the leader's tells, which differs; and behind one that was never
    /// committed none was.
    package func isUndecided(behind index: LogIndex) -> Bool {
        lost.contains {
            $0.lower <= index + 1 && index + 1 <= $0.upper && $0.known?.index != index + 1
        }
    }

    /// `index`, or where lost terms before it begin.
    package func lastKnown(atOrBelow index: LogIndex) -> LogIndex {
        lost.first { $0.lower <= index && index <= $0.upper }.map { $0.lower - 1 } ?? index
    }

    /// The highest index, at most `index`, whose term is at most `term`; `base` or below if none
    /// is. Used by both sides of a refused append, so that whole terms are skipped.
    package func lastIndex(atOrBelow index: LogIndex, termAtMost term: Term) -> LogIndex {
        var end = min(index, last)
        for run in runs.reversed() where run.first <= end {
            if run.term <= term { return end }
            end = run.first - 1
        }
        return end
    }

    private func run(at index: LogIndex) -> Int {
        var low = 0
        var high = runs.count
        while low + 1 < high {
            let middle = (low + high) / 2
            if runs[middle].first <= index { low = middle } else { high = middle }
        }
        return low
    }

    private mutating func dropRunsBeforeFirst() {
        guard last > base else { return runs.removeAll() }
        guard let keep = runs.lastIndex(where: { $0.first <= base + 1 }) else { return }
        runs.removeFirst(keep)
        runs[0].first = base + 1
    }
}
