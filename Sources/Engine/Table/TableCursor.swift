// A position in one table, forward and reverse. Holds one block pinned; moving within it allocates
// nothing. After a throw the cursor is invalid and may be positioned again.
//
// It goes from block to block only within its scope: past blocks of which the reader sees nothing,
// and not on to one that by the index holds no key of the span.

package final class TableCursor: EntryCursor {
    private let reader: TableReader
    private let io: ReadIO
    private let fillCache: Bool
    private let scope: ScanScope
    /// Nil where no block can be hidden from the reader.
    private let bounds: BlockBounds?
    /// The first and the last block with keys of the span; nil until one is asked for.
    private var spanFirst: Int?
    private var spanLast: Int?
    @exclusivity(unchecked) private var ahead = ReadAhead()
    private var pinned: PinnedBlock?
    private var ordinal = 0
    private var position = 0
    private var block = DataBlock.none
    private var entry = DataBlock.Entry.none
    private var firstKey = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Where keys that share a prefix with the block's first key are put together.
    private var assembled: UnsafeMutableRawBufferPointer
    /// So many leading bytes of `assembled` equal the first key's.
    private var assembledShared = 0

    // Private with a package getter: the compiler then proves that accesses do not overlap, instead
    // of checking it at run time for every entry.
    private var valid = false

    init(_ reader: TableReader, _ io: ReadIO, fillCache: Bool, _ scope: ScanScope) {
        self.reader = reader
        self.io = io
        self.fillCache = fillCache
        self.scope = scope
        bounds = scope.visible < reader.record.largestSequence ? reader.blockBounds(io: io) : nil
        assembled = .allocate(byteCount: 256, alignment: 16)
    }

    deinit {
        pinned?.release()
        assembled.deallocate()
    }

    package var isValid: Bool { valid }

    package var key: UnsafeRawBufferPointer {
        invariant(valid, "an invalid table cursor was read")
        return currentKey
    }

    @inline(__always)
    private var currentKey: UnsafeRawBufferPointer {
        if entry.shared == 0 { return entry.suffix }
        return UnsafeRawBufferPointer(
            start: assembled.baseAddress, count: entry.shared + entry.suffix.count)
    }
    package var trailer: Trailer { entry.trailer }
    package var value: UnsafeRawBufferPointer { entry.value }

    private var blockTotal: Int { reader.leafList.dataCount }

    package func seekToFirst() throws(EngineError) {
        guard try enter(shown(from: 0, step: 1)) else { return }
        move(to: 0)
    }

    package func seekToLast() throws(EngineError) {
        guard try enter(shown(from: blockTotal - 1, step: -1)) else { return }
        move(to: block.count - 1)
    }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
        valid = false
        guard blockTotal > 0 else { return }
        let named = try reader.blockOrdinal(key, trailer, io: io)
        let target = shown(from: named, step: 1)
        guard try enter(target) else { return }
        if target > named { return move(to: 0) }
        let found = block.lowerBound(key, trailer)
        if found < block.count { return move(to: found) }
        // The separator lies behind the block's last entry: the next block starts behind the key.
        guard try enter(blockBehind()) else { return }
        move(to: 0)
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        valid = false
        guard blockTotal > 0 else { return }
        let newest = Trailer(rawValue: .max)
        let named = try reader.blockOrdinal(key, newest, io: io)
        if named >= blockTotal { return try seekToLast() }
        let target = shown(from: named, step: -1)
        guard try enter(target) else { return }
        if target < named { return move(to: block.count - 1) }
        let bound = block.lowerBound(key, newest)
        if bound > 0 { return move(to: bound - 1) }
        guard try enter(blockBefore()) else { return }
        move(to: block.count - 1)
    }

    package func next() throws(EngineError) {
        invariant(valid, "an invalid table cursor was moved")
        if position + 1 < block.count { return move(to: position + 1) }
        guard try enter(blockBehind()) else { return }
        move(to: 0)
    }

    package func advance() throws(EngineError) -> CursorEntry? {
        invariant(valid, "an invalid table cursor was moved")
        if position + 1 < block.count {
            move(to: position + 1)
        } else {
            guard try enter(blockBehind()) else { return nil }
            move(to: 0)
        }
        return CursorEntry(key: currentKey, trailer: entry.trailer, value: entry.value)
    }

    package func previous() throws(EngineError) {
        invariant(valid, "an invalid table cursor was moved")
        if position > 0 { return move(to: position - 1) }
        guard try enter(blockBefore()) else { return }
        move(to: block.count - 1)
    }

    /// The first block from `target` on, by steps of 1 or -1, that is not hidden from the reader.
    @inline(__always)
    private func shown(from target: Int, step: Int) -> Int {
        guard let bounds else { return target }
        var at = target
        while at >= 0, at < blockTotal, bounds.hides(at, from: scope.visible) { at += step }
        return at
    }

    /// The block to go on with behind the current one; `blockTotal` if there is none in the scope.
    private func blockBehind() -> Int {
        let next = shown(from: ordinal + 1, step: 1)
        guard next < blockTotal, let end = scope.end else { return next }
        let last = spanLast ?? block(of: end, else: blockTotal)
        spanLast = last
        return next <= last ? next : blockTotal
    }

    /// The block to go on with before the current one; -1 if there is none in the scope.
    private func blockBefore() -> Int {
        let next = shown(from: ordinal - 1, step: -1)
        guard next >= 0, !scope.start.isEmpty else { return next }
        let first = spanFirst ?? block(of: scope.start, else: 0)
        spanFirst = first
        return next >= first ? next : -1
    }

    /// The first block that may hold `key` or a larger one. Where the index cannot be asked now,
    /// the blocks themselves tell.
    private func block(of key: UnsafeRawBufferPointer, else unknown: Int) -> Int {
        (try? reader.blockOrdinal(key, Trailer(rawValue: .max), io: io)) ?? unknown
    }

    /// Pins block `target`; false, and invalid, if there is none.
    private func enter(_ target: Int) throws(EngineError) -> Bool {
        valid = false
        guard target >= 0, target < blockTotal else { return false }
        if pinned != nil, ordinal == target { return true }
        pinned?.release()
        pinned = nil
        let next = try reader.pin(target, io, fillCache: fillCache, &ahead)
        next.block.prefetchSteps()
        pinned = next
        ordinal = target
        block = DataBlock(next.block.bytes)
        firstKey = block.firstKey
        assembledShared = 0
        return true
    }

    @inline(__always)
    private func move(to index: Int) {
        position = index
        entry = block.entry(index)
        valid = true
        if entry.shared > 0 { assemble() }
    }

    private func assemble() {
        let shared = entry.shared
        let suffix = entry.suffix
        if assembled.count < shared + suffix.count { grow(shared + suffix.count) }
        guard let target = assembled.baseAddress, let first = firstKey.baseAddress else { return }
        if shared > assembledShared {
            (target + assembledShared).copyMemory(
                from: first + assembledShared, byteCount: shared - assembledShared)
        }
        assembledShared = shared
        if let source = suffix.baseAddress, !suffix.isEmpty {
            (target + shared).copyMemory(from: source, byteCount: suffix.count)
        }
    }

    private func grow(_ size: Int) {
        assembled.deallocate()
        assembled = .allocate(byteCount: max(size, 1024), alignment: 16)
        assembledShared = 0
    }
}
