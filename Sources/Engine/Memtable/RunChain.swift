// The sorted runs of a memtable, in a few chains. Runs of a chain ascend without overlap, so each
// holds one version of a key at most, and a search in it is a binary search whatever the number
// of its runs: a load of any length is one chain. A run that would need a chain too many is not
// taken: the memtable puts its pairs into the skiplist. So a read looks at few places.
//
// One writer appends; any thread reads without locks: a count is published after what it counts.
// Storage that was outgrown stays until the memtable goes, for those who read it still.

import Synchronization

// @unchecked: storage and count are atomics; the rest belongs to the writer.
final class RunChain: @unchecked Sendable {
    typealias Runs = UnsafeBufferPointer<Unmanaged<SortedRun>>

    private static let firstCapacity = 4

    private let total = Atomic<Int>(0)
    private let storage: Atomic<UnsafeMutablePointer<Unmanaged<SortedRun>>>
    private var capacity = RunChain.firstCapacity
    private var outgrown: [UnsafeMutablePointer<Unmanaged<SortedRun>>] = []

    init() { storage = Atomic(.allocate(capacity: RunChain.firstCapacity)) }

    deinit {
        for run in runs { run.release() }
        for memory in outgrown { memory.deallocate() }
        storage.load(ordering: .relaxed).deallocate()
    }

    /// As they are now; borrowed from the chain.
    var runs: Runs {
        // The storage of a later count holds the runs of an earlier one, too.
        let count = total.load(ordering: .acquiring)
        return Runs(start: storage.load(ordering: .acquiring), count: count)
    }

    /// Writer only. False if the run does not lie behind all others.
    func append(_ run: SortedRun) -> Bool {
        let count = total.load(ordering: .relaxed)
        var memory = storage.load(ordering: .relaxed)
        if count > 0 {
            let isBehind = memory[count - 1]._withUnsafeGuaranteedRef {
                compareKeys($0.largest, run.smallest) < 0
            }
            guard isBehind else { return false }
        }
        if count == capacity {
            capacity *= 2
            let longer = UnsafeMutablePointer<Unmanaged<SortedRun>>.allocate(capacity: capacity)
            longer.initialize(from: memory, count: count)
            outgrown.append(memory)
            storage.store(longer, ordering: .releasing)
            memory = longer
        }
        (memory + count).initialize(to: Unmanaged.passRetained(run))
        total.store(count + 1, ordering: .releasing)
        return true
    }
}

extension RunChain.Runs {
    /// Place of the first run whose largest key is at or after `key`; `count` if there is none.
    func firstRun(reaching key: UnsafeRawBufferPointer) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) >> 1
            let isBefore = self[middle]._withUnsafeGuaranteedRef {
                compareKeys($0.largest, key) < 0
            }
            if isBefore { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// All chains of a memtable.
final class RunChains: Sendable {
    /// More places would cost every read that passes the filter.
    static let chainsMax = 8

    private let chains = (0..<RunChains.chainsMax).map { _ in RunChain() }
    private let used = Atomic<Int>(0)

    @inline(__always)
    var isEmpty: Bool { used.load(ordering: .acquiring) == 0 }

    /// Writer only. False if it fits nowhere.
    func add(_ run: SortedRun) -> Bool {
        let count = used.load(ordering: .relaxed)
        for chain in chains[..<count] where chain.append(run) { return true }
        guard count < RunChains.chainsMax, chains[count].append(run) else { return false }
        used.store(count + 1, ordering: .releasing)
        return true
    }

    /// Each chain's runs, as they are now.
    func forEach(_ body: (RunChain.Runs) -> Void) {
        for place in 0..<used.load(ordering: .acquiring) { body(chains[place].runs) }
    }

    /// Visits the versions of `key` at or below `sequence`, in no order.
    func forEachVersion(
        of key: UnsafeRawBufferPointer, at sequence: SequenceNumber,
        _ body: (Trailer, UnsafeRawBufferPointer) -> Void
    ) {
        forEach { runs in
            let at = runs.firstRun(reaching: key)
            guard at < runs.count else { return }
            runs[at]._withUnsafeGuaranteedRef { run in
                guard run.firstSequence <= sequence, compareKeys(run.smallest, key) <= 0 else {
                    return
                }
                let place = run.firstPlace(notBefore: key)
                guard compareKeys(run.key(place), key) == 0,
                    run.trailer(place).sequence <= sequence
                else { return }
                body(run.trailer(place), run.value(place))
            }
        }
    }
}
