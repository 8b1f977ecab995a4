// A reference that is replaced while others use what it leads to: what every read takes several
// times over. A use costs two atomic steps on one word; no lock, and nothing is counted on the
// object.
//
// The word holds the address of a cell in its low 48 bits and how many uses began with that cell
// in the high 16, as in `BlockSlot`. Who ends a use takes it back from the word if the cell is
// still there. If not, then whoever replaced the cell has added the word's uses to the cell's own
// count, and the use is taken from that. The count is below zero only before that addition; so it
// reaches zero once, when all uses have ended, and then the cell goes and lets go of its object.
// Until then no other cell has the address, so a word that still shows it was not replaced.

import Synchronization

extension Unmanaged {
    /// `body` of the object, which somebody keeps meanwhile: no reference is counted.
    @inline(__always)
    func with<Value>(_ body: (Instance) throws(EngineError) -> Value) throws(EngineError) -> Value {
        let outcome = _withUnsafeGuaranteedRef { object -> Result<Value, EngineError> in
            do throws(EngineError) { return .success(try body(object)) } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }
}

package struct SharedReference<Object: AnyObject & Sendable>: ~Copyable, @unchecked Sendable {
    // Unchecked: the pointer never changes; what it leads to is atomic.
    private let word: UnsafeMutablePointer<Atomic<UInt>>

    private static var addressMask: UInt { (1 << 48) - 1 }
    private static var oneUse: UInt { 1 << 48 }
    /// More at once would carry out of the word: there are not so many threads.
    private static var usesMax: UInt { 0xf000 }

    fileprivate struct Cell: ~Copyable {
        let object: Unmanaged<Object>?
        let uses = Atomic<Int>(0)

        deinit { object?.release() }
    }

    package init(_ object: Object?) {
        word = .allocate(capacity: 1)
        word.initialize(to: Atomic(SharedReference.makeCell(object)))
    }

    deinit {
        SharedReference.retire(word.pointee.load(ordering: .acquiring))
        word.deinitialize(count: 1)
        word.deallocate()
    }

    /// Even nothing has a cell of its own each time: addresses must not repeat while they are used.
    private static func makeCell(_ object: Object?) -> UInt {
        let cell = UnsafeMutablePointer<Cell>.allocate(capacity: 1)
        cell.initialize(to: Cell(object: object.map { Unmanaged.passRetained($0) }))
        let address = UInt(bitPattern: cell)
        invariant(address & ~addressMask == 0, "an address above 48 bits")
        return address
    }

    /// The cell of `word`, which was replaced, goes with the last use.
    private static func retire(_ word: UInt) {
        end(Int(word >> 48), of: cell(word))
    }

    @inline(__always)
    private static func cell(_ word: UInt) -> UnsafeMutablePointer<Cell> {
        UnsafeMutablePointer(bitPattern: word & addressMask).unsafelyUnwrapped
    }

    /// Adds to the uses of a cell that was replaced; ends it when none is left.
    private static func end(_ change: Int, of cell: UnsafeMutablePointer<Cell>) {
        let left = cell.pointee.uses.wrappingAdd(change, ordering: .acquiringAndReleasing).newValue
        guard left == 0 else { return }
        cell.deinitialize(count: 1)
        cell.deallocate()
    }

    /// The one before is let go of here, or where its last use ends. Any thread.
    package func replace(with object: Object?) {
        let fresh = SharedReference.makeCell(object)
        SharedReference.retire(word.pointee.exchange(fresh, ordering: .acquiringAndReleasing))
    }

    /// What it leads to now: it stays until `end`, if this reference itself does. Any thread.
    @inline(__always)
    package func use() -> Use {
        let old = word.pointee.wrappingAdd(
            SharedReference.oneUse, ordering: .acquiring
        ).oldValue
        invariant(old >> 48 < SharedReference.usesMax, "too many uses of one reference at once")
        return Use(word: word, cell: SharedReference.cell(old))
    }

    /// What it leads to now. Any thread.
    package var retained: Object? {
        let current = use()
        defer { current.end() }
        return current.object?.takeUnretainedValue()
    }

    package struct Use {
        fileprivate let word: UnsafeMutablePointer<Atomic<UInt>>
        fileprivate let cell: UnsafeMutablePointer<Cell>

        @inline(__always)
        package var object: Unmanaged<Object>? { cell.pointee.object }

        /// Once.
        @inline(__always)
        package func end() {
            let address = UInt(bitPattern: cell)
            var current = word.pointee.load(ordering: .relaxed)
            while current & SharedReference.addressMask == address {
                let (isDone, now) = word.pointee.compareExchange(
                    expected: current, desired: current &- SharedReference.oneUse,
                    successOrdering: .releasing, failureOrdering: .relaxed)
                if isDone { return }
                current = now
            }
            SharedReference.end(-1, of: cell)
        }
    }
}
