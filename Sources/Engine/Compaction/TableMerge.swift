// The executor of flushes and compactions: sorted inputs in, tables out. Deterministic: the bytes
// of the outputs depend on the inputs' entries and the parameters alone, not on how the inputs are
// split into tables, on codecs, clocks, threads or hashing seeds. That is what lets replicas prove
// each other's work by digest.
//
// It balances its books: the sums over all entries that the inputs carry (from the log, and from
// the memtable before that) must equal those of what was written and what was dropped by rule. So
// an entry lost or altered on the way, by a bug or by memory, is reported with the outputs. Used by
// `FlushJob` and `CompactionJob`.

import Synchronization

/// Everything that shapes the outputs besides the inputs' entries.
package struct MergeParameters: Hashable, Sendable {
    /// Names the outputs: its index and kind, ordinals from 0.
    package var job: JobID
    package var level: UInt8
    package var rules: CompactionRules
    /// Canonical bytes at which an output ends, at the next user key.
    package var targetBytes: UInt64
    package var shape: TableShape

    package init(
        job: JobID, level: UInt8, rules: CompactionRules, targetBytes: UInt64, shape: TableShape
    ) {
        self.job = job
        self.level = level
        self.rules = rules
        self.targetBytes = targetBytes
        self.shape = shape
    }
}

/// One sorted source of a merge: a memtable, a table, or the tables of a level in a row.
package struct MergeInput {
    package var cursor: any EntryCursor
    package var rangeTombstones: [RangeTombstone]
    /// Over all its entries and range tombstones, from a record or a memtable: never computed from
    /// what the cursor yields.
    package var entrySum: UInt64
    /// Point entries, likewise.
    package var entryCount: UInt64

    package init(
        cursor: any EntryCursor, rangeTombstones: [RangeTombstone], entrySum: UInt64,
        entryCount: UInt64
    ) {
        self.cursor = cursor
        self.rangeTombstones = rangeTombstones
        self.entrySum = entrySum
        self.entryCount = entryCount
    }
}

/// Asks a running merge to stop. Any thread.
package final class CancellationFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    package init() {}
    package func cancel() { flag.store(true, ordering: .relaxed) }
    package var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

/// What a merge made.
package struct MergeResult: Sendable {
    package struct Output: Hashable, Sendable {
        package var record: TableRecord
        /// Size of the file here; another node's may differ.
        package var fileBytes: UInt64
    }

    /// What was dropped for one reason.
    package struct Dropped: Hashable, Sendable {
        package var count: UInt64 = 0
        package var entrySum: UInt64 = 0
    }

    /// In ordinal order, synced. The directory is not.
    package var outputs: [Output]
    /// By `CompactionRules.DropReason.rawValue`.
    package var dropped: [Dropped]
    /// The books balance.
    package var isBalanced: Bool

    package func dropped(_ reason: CompactionRules.DropReason) -> Dropped {
        dropped[reason.rawValue]
    }

    /// What the member reports to the leader.
    package var outcome: JobOutcome.Result {
        .tables(outputs.map(\.record), balanced: isBalanced)
    }
}

package enum TableMerge {
    /// Gives the new, empty file of output n. Called in order, from the merging thread.
    package typealias FileFactory = (_ ordinal: UInt32) throws(EngineError) -> any File

    /// Merges; nil if cancelled. Outputs are synced when it returns. After a throw or a cancelled
    /// run the caller removes the files that were made.
    package static func run(
        _ inputs: [MergeInput], _ parameters: MergeParameters, codec: BlockCodec,
        cancellation: CancellationFlag = CancellationFlag(), makeFile: FileFactory
    ) throws(EngineError) -> MergeResult? {
        let tombstones = RangeTombstoneMerge(
            inputs.flatMap(\.rangeTombstones), rules: parameters.rules)
        return try withoutActuallyEscaping(makeFile) {
            (makeFile) throws(EngineError) -> MergeResult? in
            let output = MergeOutput(
                parameters, codec: codec, tombstones: tombstones.kept, makeFile: makeFile)
            let cursor = MergingCursor.over(inputs.map(\.cursor))
            guard
                let dropped = try copy(
                    cursor, to: output, parameters.rules, CoveringWalk(tombstones.covering),
                    cancellation)
            else { return nil }
            let outputs = try output.finish()
            return MergeResult(
                outputs: outputs, dropped: dropped,
                isBalanced: isBalanced(inputs, tombstones, dropped, output, outputs))
        }
    }

    /// Entries between two looks at the cancellation flag.
    private static let entriesPerCheck = 1024

    /// Hands over what survives and counts what does not; nil if cancelled.
    private static func copy(
        _ cursor: any EntryCursor, to output: MergeOutput, _ rules: CompactionRules,
        _ covered: CoveringWalk, _ cancellation: CancellationFlag
    ) throws(EngineError) -> [MergeResult.Dropped]? {
        var covered = covered
        var dropped = Array(
            repeating: MergeResult.Dropped(), count: CompactionRules.DropReason.allCases.count)
        let current = ScratchBytes()
        var isFirst = true
        var last = Trailer(rawValue: 0)
        var state = CompactionRules.KeyState()
        var untilCheck = entriesPerCheck
        try cursor.seekToFirst()
        while cursor.isValid {
            let key = cursor.key
            let trailer = cursor.trailer
            let order = isFirst ? 1 : compareKeys(key, current.bytes)
            if order > 0 {
                isFirst = false
                current.assign(key)
                state = CompactionRules.KeyState(covering: covered.covering(key))
                try output.reach(key)
            } else if order < 0 || trailer >= last {
                throw .corrupt(file: "an input of a merge", reason: "its entries are not in order")
            }
            last = trailer
            let value = cursor.value
            if let reason = try judge(trailer, value, rules, &state) {
                dropped[reason.rawValue].count += 1
                dropped[reason.rawValue].entrySum &+= EntrySum.of(key, trailer, value)
            } else {
                try output.add(key, trailer, value)
            }
            untilCheck -= 1
            if untilCheck == 0 {
                if cancellation.isCancelled { return nil }
                untilCheck = entriesPerCheck
            }
            try cursor.next()
        }
        return cancellation.isCancelled ? nil : dropped
    }

    @inline(__always)
    private static func judge(
        _ trailer: Trailer, _ value: UnsafeRawBufferPointer, _ rules: CompactionRules,
        _ state: inout CompactionRules.KeyState
    ) throws(EngineError) -> CompactionRules.DropReason? {
        guard let kind = trailer.kind else { throw VersionContent.malformed }
        let expiry = kind == .expiringPut ? try VersionContent.expiry(value) : nil
        return rules.judge(trailer.sequence, kind, expiry: expiry, &state)
    }

    /// Point entries by their sums and count, range tombstones by theirs (which do not mind being
    /// cut): what came in equals what went out and what was dropped.
    private static func isBalanced(
        _ inputs: [MergeInput], _ tombstones: RangeTombstoneMerge,
        _ dropped: [MergeResult.Dropped], _ output: MergeOutput, _ outputs: [MergeResult.Output]
    ) -> Bool {
        var sum: UInt64 = 0
        var count: UInt64 = 0
        for input in inputs {
            sum &+= input.entrySum
            count &+= input.entryCount
            for tombstone in input.rangeTombstones { sum &-= EntrySum.of(tombstone) }
        }
        for reason in dropped {
            sum &-= reason.entrySum
            count &-= reason.count
        }
        for output in outputs {
            sum &-= output.record.entrySum
            count &-= output.record.entryCount
        }
        sum &+= output.tombstoneEntrySum
        return sum == 0 && count == 0
            && tombstones.inputSum == tombstones.droppedSum &+ output.tombstonePieceSum
    }
}
