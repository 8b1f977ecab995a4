// The executor of flushes and compactions: sorted inputs in, tables out. Deterministic: the bytes
// of the outputs depend on the inputs' entries and the parameters alone, not on how the inputs are
// split into tables, on codecs, clocks, threads or hashing seeds. That is what lets replicas prove
// each other's work by digest.
//
// It balances its books: the sums over all entries that the inputs carry (from the log, and from
// the memtable before that), and over those that folding and filtering made, must equal the sums of
// what was written and what was dropped by rule. So
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
        /// Its range tombstones, unless they are many.
        package var rangeTombstones: [RangeTombstone] = []
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
    /// Written in the place of what was merged or filtered.
    package var created = Dropped()
    /// The books balance.
    package var isBalanced: Bool

    static var noneDropped: [Dropped] {
        Array(repeating: Dropped(), count: CompactionRules.DropReason.allCases.count)
    }

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
        _ inputs: [MergeInput], _ parameters: MergeParameters, codec: Compression,
        keys: KeyRing = .plain, functions: JobFunctions = .engine,
        cancellation: CancellationFlag = CancellationFlag(), makeFile: FileFactory
    ) throws(EngineError) -> MergeResult? {
        let tombstones = RangeTombstoneMerge(
            inputs.flatMap(\.rangeTombstones), rules: parameters.rules)
        return try withoutActuallyEscaping(makeFile) {
            (makeFile) throws(EngineError) -> MergeResult? in
            let output = MergeOutput(
                parameters, codec: codec, keys: keys, tombstones: tombstones.kept,
                makeFile: makeFile)
            let pass = MergePass(
                MergingCursor.over(inputs.map(\.cursor)), to: output, parameters.rules, functions,
                CoveringWalk(tombstones.covering))
            guard try pass.run(cancellation) else { return nil }
            let outputs = try output.finish()
            return MergeResult(
                outputs: outputs, dropped: pass.dropped, created: pass.created,
                isBalanced: isBalanced(inputs, tombstones, pass, output, outputs))
        }
    }

    /// Point entries by their sums and count, range tombstones by theirs (which do not mind being
    /// cut): what came in equals what went out and what was dropped.
    private static func isBalanced(
        _ inputs: [MergeInput], _ tombstones: RangeTombstoneMerge,
        _ pass: MergePass, _ output: MergeOutput, _ outputs: [MergeResult.Output]
    ) -> Bool {
        var sum = pass.created.entrySum
        var count = pass.created.count
        for input in inputs {
            sum &+= input.entrySum
            count &+= input.entryCount
            for tombstone in input.rangeTombstones { sum &-= EntrySum.of(tombstone) }
        }
        for reason in pass.dropped {
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
