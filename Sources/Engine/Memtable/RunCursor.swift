// A position in one chain of sorted runs, as it was when the cursor was made: later runs have
// sequences that its reader does not see.

package final class RunCursor: EntryCursor {
    /// Owns the chain.
    private let memtable: Memtable
    private let runs: RunChain.Runs
    private var at = 0
    private var place = 0
    private var run: Unmanaged<SortedRun>?

    init(_ memtable: Memtable, _ runs: RunChain.Runs) {
        self.memtable = memtable
        self.runs = runs
    }

    package var isValid: Bool { run != nil }

    @inline(__always)
    private func current<R>(_ body: (SortedRun) -> R) -> R {
        guard let run else { brokenInvariant("an invalid run cursor was read") }
        return run._withUnsafeGuaranteedRef(body)
    }

    package var key: UnsafeRawBufferPointer { current { $0.key(place) } }
    package var trailer: Trailer { current { $0.trailer(place) } }
    package var value: UnsafeRawBufferPointer { current { $0.value(place) } }

    package func seekToFirst() { enter(0) { _ in 0 } }
    package func seekToLast() { enter(runs.count - 1) { $0.count - 1 } }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) {
        enter(runs.firstRun(reaching: key)) { $0.firstPlace(notBefore: key) }
        // A chain holds one version of a key: if it is too new, the next one is of another key.
        if isValid, self.trailer > trailer, compareKeys(self.key, key) == 0 { next() }
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) {
        let reaching = runs.firstRun(reaching: key)
        enter(reaching) { $0.firstPlace(notBefore: key) }
        if isValid { previous() } else { seekToLast() }
    }

    package func next() {
        if place + 1 < current(\.count) { place += 1 } else { enter(at + 1) { _ in 0 } }
    }

    package func previous() {
        if place > 0 { place -= 1 } else { enter(at - 1) { $0.count - 1 } }
    }

    private func enter(_ index: Int, _ start: (SortedRun) -> Int) {
        at = index
        run = runs.indices.contains(index) ? runs[index] : nil
        place = run?._withUnsafeGuaranteedRef(start) ?? 0
    }
}
