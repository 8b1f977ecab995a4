// One pass over the sorted entries of a merge: hands over what survives, counts what does not, and
// folds. Operands at or below the horizon wait, newest first, for what they stand on: every reader
// of the result sees all of them, so they and their base may become one version. A single delete
// waits for the put below it.
//
// What operands make, by what is known to lie below them:
//   a put                          a put, under the newest operand's sequence
//   a tombstone, an expired put,
//   a range tombstone, the bottom  the same, from no value
//   anything else                  one operand for each run of one associative operator
// An unexpired put stays and keeps its operands above it: once it expires they stand on nothing.
// Operands whose operator this job may not use stay, and so do those above them, but for runs.
// Entries that are neither operands nor single deletes take the short way past all of this.

final class MergePass {
    private struct Operand {
        let trailer: Trailer
        let id: MergeOperatorID
        /// Of what is stored, operator and operand, in `operandBytes`.
        let start: Int
        let count: Int
    }

    /// What operands stand on.
    private enum Base {
        case unknown
        case nothing
        case value(Trailer, UnsafeRawBufferPointer)
        /// As stored; its value is in a blob file.
        case reference(Trailer, UnsafeRawBufferPointer)
    }

    private let cursor: any EntryCursor
    private let output: MergeOutput
    private let rules: CompactionRules
    private let functions: JobFunctions
    private let covered: CoveringWalk
    /// Keys that this pass is over.
    private let span: KeySpan
    /// Where references lead to. Followed only for values that are folded or filtered.
    private let blobs: BlobFiles

    private(set) var dropped = MergeResult.noneDropped
    private(set) var created = MergeResult.Dropped()

    // The key at hand.
    @exclusivity(unchecked) private var current = ScratchBytes()
    /// A range tombstone at or below the horizon lies over it.
    private var isCovered = false
    /// Newest first.
    private var operands: [Operand] = []
    private var operandBytes: [UInt8] = []
    private var singleDelete: Trailer?
    /// One of the above is not empty.
    private var isWaiting = false
    /// Operands right above were written as they are: they stand on what comes next.
    private var hasOperandsAbove = false

    /// Entries between two looks at the cancellation flag.
    private static let entriesPerCheck = 1024
    /// What waits at most, unless a single operand is larger. A constant: it shapes the outputs.
    private static let operandBytesMax = 32 << 20
    /// Longest value that folding aims at; leaves room for a delimiter.
    private static let valueBytesMax = Limits.valueBytesMax - (64 << 10)
    private static var noBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: nil, count: 0)
    }

    init(
        _ cursor: any EntryCursor, over span: KeySpan, to output: MergeOutput,
        _ rules: CompactionRules,
        _ functions: JobFunctions, _ covered: CoveringWalk, _ blobs: BlobFiles
    ) {
        self.cursor = cursor
        self.span = span
        self.output = output
        self.rules = rules
        self.functions = functions
        self.covered = covered
        self.blobs = blobs
    }

    /// False if cancelled.
    func run(_ cancellation: CancellationFlag) throws(EngineError) -> Bool {
        // In locals, as all that the loop changes: fields of a class are checked at each access.
        let cursor = self.cursor
        let output = self.output
        let rules = self.rules
        let isFiltering = functions.filter != nil
        var covered = self.covered
        var state = CompactionRules.KeyState()
        var isFirst = true
        var isOnLongWay = false
        var last = Trailer(rawValue: 0)
        var untilCheck = MergePass.entriesPerCheck
        let end = span.end
        if span.start.isEmpty {
            try cursor.seekToFirst()
        } else {
            try withKey(span.start) { (start) throws(EngineError) in
                try cursor.seek(start, Trailer.seek(.max))
            }
        }
        while cursor.isValid {
            let key = cursor.key
            let trailer = cursor.trailer
            let order = isFirst ? 1 : compareKeys(key, current.bytes)
            if order > 0 {
                if let end, end.compare(with: key) <= 0 { break }
                if isWaiting { try endKey() }
                isFirst = false
                isOnLongWay = false
                current.assign(key)
                state = CompactionRules.KeyState(covering: covered.covering(key))
                try output.reach(key)
            } else if order < 0 || trailer >= last {
                throw .corrupt(file: "an input of a merge", reason: "its entries are not in order")
            }
            last = trailer
            let value = cursor.value
            guard let kind = trailer.kind else { throw VersionContent.malformed }
            let expiry = try VersionContent.expiry(kind, value)
            let verdict = rules.judge(trailer.sequence, kind, expiry: expiry, &state)
            if isWaiting || isFiltering || kind.rawValue >= ValueKind.merge.rawValue {
                if !isOnLongWay { beginKey(state) }
                isOnLongWay = true
                try place(trailer, kind, value, verdict)
            } else if let verdict {
                drop(verdict, trailer, value)
            } else {
                try output.add(key, trailer, value)
            }
            untilCheck -= 1
            if untilCheck == 0 {
                if cancellation.isCancelled { return false }
                untilCheck = MergePass.entriesPerCheck
            }
            try cursor.next()
        }
        if isWaiting { try endKey() }
        return !cancellation.isCancelled
    }

    @inline(__always)
    private func drop(
        _ reason: CompactionRules.DropReason, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) {
        dropped[reason.rawValue].count += 1
        dropped[reason.rawValue].entrySum &+= EntrySum.of(current.bytes, trailer, value)
    }

    private func keep(_ trailer: Trailer, _ value: UnsafeRawBufferPointer) throws(EngineError) {
        try output.add(current.bytes, trailer, value)
    }

    /// Enters a version into the books that no input holds.
    private func note(created trailer: Trailer, _ value: UnsafeRawBufferPointer) {
        created.count += 1
        created.entrySum &+= EntrySum.of(current.bytes, trailer, value)
    }

    // MARK: the long way

    /// Before the first version of a key that takes the long way.
    private func beginKey(_ state: CompactionRules.KeyState) {
        isCovered = state.isCovered
        hasOperandsAbove = false
    }

    /// One version of a key of which something waits, or that may have to wait, or be filtered.
    private func place(
        _ trailer: Trailer, _ kind: ValueKind, _ value: UnsafeRawBufferPointer,
        _ verdict: CompactionRules.DropReason?
    ) throws(EngineError) {
        if singleDelete != nil { return try meetSingleDelete(trailer, kind, value, verdict) }
        if !operands.isEmpty, kind != .merge || verdict != nil {
            return try meetOperands(trailer, kind, value, verdict)
        }
        if let verdict { return drop(verdict, trailer, value) }
        guard trailer.sequence <= rules.horizon else {
            hasOperandsAbove = kind == .merge
            return try keep(trailer, value)
        }
        switch kind {
        case .merge: try wait(trailer, value)
        case .singleDelete: wait(trailer)
        case .delete: try keep(trailer, value)
        case .put, .expiringPut, .blobReference: try filter(trailer, kind, value)
        }
    }

    private func wait(_ trailer: Trailer, _ value: UnsafeRawBufferPointer) throws(EngineError) {
        guard let operand = MergeOperand(stored: value) else { throw VersionContent.malformed }
        // Before another one waits, never before it is known that one comes: the oldest always meet
        // what lies below, so that each job shortens what cannot be combined.
        let waiting = operandBytes.count + operands.count * MemoryLayout<Operand>.stride
        if !operands.isEmpty, waiting + value.count > MergePass.operandBytesMax {
            _ = try fold(onto: .unknown)
        }
        operands.append(
            Operand(
                trailer: trailer, id: operand.id, start: operandBytes.count, count: value.count))
        operandBytes.append(contentsOf: value)
        isWaiting = true
    }

    /// Calls `body` with what is stored of an operand that waits.
    private func withStored<Value>(
        _ operand: Operand, _ body: (UnsafeRawBufferPointer) throws(EngineError) -> Value
    ) throws(EngineError) -> Value {
        try withKey(operandBytes) { (bytes) throws(EngineError) in
            let end = operand.start + operand.count
            return try body(UnsafeRawBufferPointer(rebasing: bytes[operand.start..<end]))
        }
    }

    private func wait(_ trailer: Trailer) {
        singleDelete = trailer
        isWaiting = true
    }

    /// All versions of the key were seen.
    private func endKey() throws(EngineError) {
        if !operands.isEmpty {
            let isBare = rules.dropsTombstones || isCovered
            _ = try fold(onto: isBare ? .nothing : .unknown)
        }
        if let waiting = singleDelete {
            singleDelete = nil
            try keep(waiting, MergePass.noBytes)
        }
        isWaiting = false
    }

    /// A version below the single delete that waits. All but other tombstones are hidden by it.
    private func meetSingleDelete(
        _ trailer: Trailer, _ kind: ValueKind, _ value: UnsafeRawBufferPointer,
        _ verdict: CompactionRules.DropReason?
    ) throws(EngineError) {
        guard let waiting = singleDelete else { return }
        switch kind {
        case .put, .expiringPut, .blobReference:
            drop(.singleDeleted, waiting, MergePass.noBytes)
            drop(.singleDeleted, trailer, value)
            singleDelete = nil
        case .delete:
            // It hides what the single delete would give up hiding.
            drop(.singleDeleted, waiting, MergePass.noBytes)
            singleDelete = nil
            try keep(trailer, value)
        case .singleDelete where verdict == nil:
            drop(.singleDeleted, waiting, MergePass.noBytes)
            singleDelete = trailer
        case .singleDelete, .merge: drop(verdict ?? .shadowed, trailer, value)
        }
        isWaiting = singleDelete != nil
    }

    /// The first version below the operands that wait which is none of them.
    private func meetOperands(
        _ trailer: Trailer, _ kind: ValueKind, _ value: UnsafeRawBufferPointer,
        _ verdict: CompactionRules.DropReason?
    ) throws(EngineError) {
        if let verdict {
            // Hidden or gone for every reader: nothing lies below.
            _ = try fold(onto: .nothing)
            return drop(verdict, trailer, value)
        }
        switch kind {
        case .put:
            if try !fold(onto: .value(trailer, value)) { try keep(trailer, value) }
        case .blobReference where try BlobReference(stored: value).expiry == nil:
            if try !fold(onto: .reference(trailer, value)) { try keep(trailer, value) }
        case .expiringPut, .merge, .blobReference:
            _ = try fold(onto: .unknown)
            try keep(trailer, value)
        case .delete:
            if try fold(onto: .nothing) {
                drop(.shadowed, trailer, value)
            } else {
                try keep(trailer, value)
            }
        case .singleDelete:
            _ = try fold(onto: .nothing)
            wait(trailer)
        }
    }

    // MARK: folding

    /// Writes what the waiting operands make. True if one at least was folded onto the base, which
    /// then is part of the result.
    private func fold(onto base: Base) throws(EngineError) -> Bool {
        let waiting = operands
        isWaiting = false
        defer {
            operands.removeAll(keepingCapacity: true)
            operandBytes.removeAll(
                keepingCapacity: operandBytes.count <= MergePass.operandBytesMax)
        }
        var value: [UInt8]?
        var left = waiting.count
        switch base {
        case .unknown: break
        case .nothing: left = try foldOldest(waiting, into: &value)
        case .value(_, let bytes):
            value = [UInt8](bytes)
            left = try foldOldest(waiting, into: &value)
        case .reference(_, let stored):
            let reference = try BlobReference(stored: stored)
            value = try blobs.withStored(reference, io: .blocking, fillsCache: false) {
                [UInt8]($0)
            }
            left = try foldOldest(waiting, into: &value)
        }
        try combine(waiting[..<left])
        guard left < waiting.count, let value else { return false }
        for operand in waiting[left...] {
            try withStored(operand) { drop(.merged, operand.trailer, $0) }
        }
        switch base {
        case .unknown, .nothing: break
        case .value(let trailer, let stored), .reference(let trailer, let stored):
            drop(.merged, trailer, stored)
        }
        let trailer = Trailer(waiting[left].trailer.sequence, .put)
        try withKey(value) { (value) throws(EngineError) in
            note(created: trailer, value)
            try filter(trailer, .put, value)
        }
        return true
    }

    /// Folds from the oldest on, as far as operators are at hand; returns how many are left.
    private func foldOldest(_ waiting: [Operand], into value: inout [UInt8]?)
        throws(EngineError) -> Int
    {
        var left = waiting.count
        while left > 0, let known = functions.mergeOperator(waiting[left - 1].id) {
            let oldest = waiting[left - 1]
            guard (value?.count ?? 0) + oldest.count <= MergePass.valueBytesMax else { break }
            try withStored(oldest) { bytes in
                let operand = UnsafeRawBufferPointer(rebasing: bytes[MergeOperand.headBytes...])
                known.fold(operand, onto: &value)
            }
            left -= 1
        }
        return left
    }

    /// Writes operands that stay, each run of one associative operator as one.
    private func combine(_ staying: ArraySlice<Operand>) throws(EngineError) {
        var first = staying.startIndex
        while first < staying.endIndex {
            hasOperandsAbove = true
            let newest = staying[first]
            var end = first + 1
            if let known = functions.mergeOperator(newest.id), known.isAssociative {
                var bytes = newest.count
                while end < staying.endIndex, staying[end].id == newest.id,
                    bytes + staying[end].count <= MergePass.valueBytesMax
                {
                    bytes += staying[end].count
                    end += 1
                }
                if end - first > 1 { try combine(staying[first..<end], by: known) }
            }
            if end - first == 1 {
                try withStored(newest) { (stored) throws(EngineError) in
                    try keep(newest.trailer, stored)
                }
            }
            first = end
        }
    }

    /// One operand of a run, newest first, under the newest's sequence.
    private func combine(_ run: ArraySlice<Operand>, by known: any MergeOperator)
        throws(EngineError)
    {
        var joined: [UInt8] = []
        for operand in run.reversed() {
            try withStored(operand) { stored in
                drop(.merged, operand.trailer, stored)
                let bytes = UnsafeRawBufferPointer(rebasing: stored[MergeOperand.headBytes...])
                if operand.trailer == run.last?.trailer {
                    joined = [UInt8](bytes)
                } else {
                    known.combine(bytes, into: &joined)
                }
            }
        }
        let trailer = run[run.startIndex].trailer
        let stored = MergeOperand.stored(known.id, joined)
        try withKey(stored) { (stored) throws(EngineError) in
            note(created: trailer, stored)
            try keep(trailer, stored)
        }
    }

    // MARK: filtering

    /// Writes a put, or what the filter makes of it. Only for the newest version at or below the
    /// horizon; one that operands still stand on is none.
    private func filter(_ trailer: Trailer, _ kind: ValueKind, _ stored: UnsafeRawBufferPointer)
        throws(EngineError)
    {
        guard let filter = functions.filter, !hasOperandsAbove else {
            return try keep(trailer, stored)
        }
        guard kind == .blobReference else {
            return try decide(by: filter, trailer, kind, stored, content: stored)
        }
        let reference = try BlobReference(stored: stored)
        try blobs.withStored(reference, io: .blocking, fillsCache: false) {
            (content) throws(EngineError) in
            try decide(by: filter, trailer, reference.kind, stored, content: content)
        }
    }

    /// `content` is what `stored` says or leads to, the bytes of a version of `kind`.
    private func decide(
        by filter: any CompactionFilter, _ trailer: Trailer, _ kind: ValueKind,
        _ stored: UnsafeRawBufferPointer, content: UnsafeRawBufferPointer
    ) throws(EngineError) {
        let head = kind == .expiringPut ? 8 : 0
        let expiry = kind == .expiringPut ? try VersionContent.expiry(content) : nil
        let decision = filter.decide(
            key: current.bytes, value: UnsafeRawBufferPointer(rebasing: content[head...]),
            expiry: expiry)
        switch decision {
        case .keep: try keep(trailer, stored)
        case .drop:
            drop(.filtered, trailer, stored)
            guard !rules.dropsTombstones else { return }
            let tombstone = Trailer(trailer.sequence, .delete)
            note(created: tombstone, MergePass.noBytes)
            try keep(tombstone, MergePass.noBytes)
        case .change(let value) where head + value.count > Limits.valueBytesMax:
            // No table takes it; the job would fail again and again.
            try keep(trailer, stored)
        case .change(let value):
            drop(.filtered, trailer, stored)
            // It stays with its key, wherever the old one was.
            let trailer = Trailer(trailer.sequence, kind)
            try withKey([UInt8](content[..<head]) + value) { (changed) throws(EngineError) in
                note(created: trailer, changed)
                try keep(trailer, changed)
            }
        }
    }
}
