// The rows of a layer of a ribbon filter while it is built, in echelon form: the row of a slot has
// its first coefficient there. A new row is reduced by those it meets until it begins at a free
// slot. That is a chain of dependent loads and shifts, one key in five goes through dozens of them,
// so four rows are reduced side by side: while one waits the processor works on the others.
//
// Keys that are added together may be so in any order: whether they contradict each other, which
// slots they take and what the solution is depend on the space that the rows span, on nothing else.

struct BurrRow {
    /// From the row's slot on; the first is 1, or all are 0 if the slot is free.
    var coefficients: UInt64
    var fingerprint: UInt64
}

/// Memory for the rows of one layer after another.
struct BurrRows: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private var rows: UnsafeMutablePointer<BurrRow>
    /// The slots that the keys added last took: no more than the ribbons of a bucket cover.
    private let taken: UnsafeMutablePointer<Int>
    /// The bits of a fingerprint that there are columns for.
    private let fingerprintMask: UInt64
    private var slots = 0
    private var clearedSlots = 0

    /// For layers of at most `count` keys.
    init(keys count: Int, bits: Int) {
        // A slot more for idle lanes; and room for spare words if a layer has not enough slots.
        capacity = max(BurrFormat.groups(keys: count) * 8 + 1, (count + 1) / 2)
        // No row lies in two cache lines.
        let stride = MemoryLayout<BurrRow>.stride
        memory = .allocate(byteCount: capacity * stride, alignment: stride)
        rows = memory.bindMemory(to: BurrRow.self, capacity: capacity)
        taken = .allocate(capacity: BurrFormat.bucketSlots + BurrFormat.width)
        fingerprintMask = (0..<(bits + 7) / 8).reduce(0) {
            $0 | BurrFormat.columns(bits, group: $1) << UInt64($1)
        }
    }

    deinit {
        memory.deallocate()
        taken.deallocate()
    }

    /// The same memory as a word for each key, until the next layer begins.
    mutating func spareWords() -> UnsafeMutablePointer<UInt64> {
        memory.bindMemory(to: UInt64.self, capacity: 2 * capacity)
    }

    mutating func beginLayer(slots: Int) {
        self.slots = slots
        clearedSlots = 0
        rows = memory.bindMemory(to: BurrRow.self, capacity: capacity)
        rows[slots] = BurrLane.idleRow
    }

    /// Frees the slots before `end`. To be done right before they are used: then they are in the
    /// cache.
    mutating func clear(before end: Int) {
        let end = min(end, slots)
        (rows + clearedSlots).initialize(
            repeating: BurrRow(coefficients: 0, fingerprint: 0), count: end - clearedSlots)
        clearedSlots = end
    }

    @inline(__always)
    subscript(slot: Int) -> BurrRow { rows[slot] }

    /// Adds keys of one bucket; or none and returns false, if they contradict each other or those
    /// that were added before.
    func add(_ keys: UnsafePointer<UInt64>, count: Int, starts: UInt64) -> Bool {
        var elimination = BurrElimination(
            rows: rows, taken: taken, keys: keys, starts: starts, fingerprintMask: fingerprintMask,
            idle: BurrLane(row: BurrLane.idle, slot: slots), waiting: count, unfinished: count)
        if elimination.run() { return true }
        elimination.takeBack()
        return false
    }
}

/// A row on its way to a free slot.
private struct BurrLane {
    var row: BurrRow
    var slot: Int

    /// A lane without a key meets `idleRow` again and again: their sum begins where the lane's row
    /// did, so it neither moves nor ends.
    static let idle = BurrRow(coefficients: 0b01, fingerprint: 0)
    static let idleRow = BurrRow(coefficients: 0b10, fingerprint: 0)
}

/// Adds the keys of one call.
private struct BurrElimination {
    let rows: UnsafeMutablePointer<BurrRow>
    let taken: UnsafeMutablePointer<Int>
    var takenCount = 0
    let keys: UnsafePointer<UInt64>
    let starts: UInt64
    let fingerprintMask: UInt64
    let idle: BurrLane
    /// Keys that no lane took yet: the first ones.
    var waiting: Int
    /// Keys without a slot yet.
    var unfinished: Int
    /// Other than 0 if a row without coefficients has a fingerprint.
    var contradiction: UInt64 = 0

    /// False if there is a contradiction.
    @inline(__always)
    mutating func run() -> Bool {
        var first = nextLane()
        var second = nextLane()
        var third = nextLane()
        var fourth = nextLane()
        while unfinished > 0, contradiction == 0 {
            step(&first)
            step(&second)
            step(&third)
            step(&fourth)
        }
        return contradiction == 0
    }

    @inline(__always)
    private mutating func nextLane() -> BurrLane {
        guard waiting > 0 else { return idle }
        waiting &-= 1
        let hash = keys[waiting]
        let (coefficients, fingerprint) = BurrFormat.row(hash)
        return BurrLane(
            row: BurrRow(coefficients: coefficients, fingerprint: fingerprint & fingerprintMask),
            slot: BurrFormat.start(hash, starts))
    }

    /// Places the lane's row, or reduces it by the one in its way.
    @inline(__always)
    private mutating func step(_ lane: inout BurrLane) {
        let present = rows[lane.slot]
        if present.coefficients == 0 {
            rows[lane.slot] = lane.row
            taken[takenCount] = lane.slot
            takenCount &+= 1
            finish(&lane)
            return
        }
        lane.row.coefficients ^= present.coefficients
        lane.row.fingerprint ^= present.fingerprint
        if lane.row.coefficients == 0 {
            contradiction |= lane.row.fingerprint
            finish(&lane)
            return
        }
        let skipped = lane.row.coefficients.trailingZeroBitCount
        lane.row.coefficients = lane.row.coefficients &>> UInt64(truncatingIfNeeded: skipped)
        lane.slot &+= skipped
    }

    @inline(__always)
    private mutating func finish(_ lane: inout BurrLane) {
        unfinished &-= 1
        lane = nextLane()
    }

    /// Rows of earlier calls were never reduced by these, so they may go without a trace.
    func takeBack() {
        for index in 0..<takenCount { rows[taken[index]].coefficients = 0 }
    }
}
