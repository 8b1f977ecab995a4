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
    /// Which values go to blob files. Their blocks are cut as those of the tables.
    package var blobs: BlobPlan

    package init(
        job: JobID, level: UInt8, rules: CompactionRules, targetBytes: UInt64, shape: TableShape,
        blobs: BlobPlan = .off
    ) {
        self.job = job
        self.level = level
        self.rules = rules
        self.targetBytes = targetBytes
        self.shape = shape
        self.blobs = blobs
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

        mutating func add(_ other: Dropped) {
            count += other.count
            entrySum &+= other.entrySum
        }
    }

    /// Tables in ordinal order, then blob files in theirs; synced. The directory is not.
    package var outputs: [Output]
    /// By `CompactionRules.DropReason.rawValue`.
    package var dropped: [Dropped]
    /// Written in the place of what was merged or filtered, or whose value is in a blob file now.
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
    /// Gives the new, empty file of an output. Called in the order of each kind's ordinals, from
    /// the merging thread.
    package typealias FileFactory = (_ output: TableID) throws(EngineError) -> any File

    /// How this node stores outputs: no part of what they are.
    package struct Storage {
        package var codec: Compression
        /// Of blob files, whatever the level of the job.
        package var blobCodec: Compression
        package var keys: KeyRing

        package init(codec: Compression, blobCodec: Compression? = nil, keys: KeyRing = .plain) {
            self.codec = codec
            self.blobCodec = blobCodec ?? codec
            self.keys = keys
        }
    }

    /// Merges; nil if cancelled. Outputs are synced when it returns. After a throw or a cancelled
    /// run the caller removes the files that were made. `blobs` are those that the inputs refer to.
    package static func run(
        _ inputs: [MergeInput], _ parameters: MergeParameters, _ storage: Storage,
        functions: JobFunctions = .engine, blobs: BlobFiles = .none,
        cancellation: CancellationFlag = CancellationFlag(), makeFile: FileFactory
    ) throws(EngineError) -> MergeResult? {
        let tombstones = RangeTombstoneMerge(
            inputs.flatMap(\.rangeTombstones), rules: parameters.rules)
        return try withoutActuallyEscaping(makeFile) {
            (makeFile) throws(EngineError) -> MergeResult? in
            let output = MergeOutput(
                parameters, storage, tombstones: tombstones.kept, blobSources: blobs,
                makeFile: makeFile)
            let pass = MergePass(
                MergingCursor.over(inputs.map(\.cursor)), to: output, parameters.rules, functions,
                CoveringWalk(tombstones.covering), blobs)
            guard try pass.run(cancellation) else { return nil }
            let outputs = try output.finish()
            var result = MergeResult(
                outputs: outputs, dropped: pass.dropped, created: pass.created, isBalanced: false)
            result.created.add(output.blobs.created)
            let collected = CompactionRules.DropReason.collected.rawValue
            result.dropped[collected].add(output.blobs.collectedReferences)
            result.isBalanced = isBalanced(inputs, tombstones, result, output)
            return result
        }
    }

    /// Point entries by their sums and count, range tombstones by theirs (which do not mind being
    /// cut): what came in equals what went out and what was dropped.
    private static func isBalanced(
        _ inputs: [MergeInput], _ tombstones: RangeTombstoneMerge, _ result: MergeResult,
        _ output: MergeOutput
    ) -> Bool {
        var sum = result.created.entrySum
        var count = result.created.count
        for input in inputs {
            sum &+= input.entrySum
            count &+= input.entryCount
            for tombstone in input.rangeTombstones { sum &-= EntrySum.of(tombstone) }
        }
        for reason in result.dropped {
            sum &-= reason.entrySum
            count &-= reason.count
        }
        for output in result.outputs {
            sum &-= output.record.entrySum
            count &-= output.record.entryCount
        }
        sum &+= output.tombstoneEntrySum
        return sum == 0 && count == 0
            && tombstones.inputSum == tombstones.droppedSum &+ output.tombstonePieceSum
    }
}
