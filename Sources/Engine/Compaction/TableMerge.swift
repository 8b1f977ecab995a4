// The executor of flushes and compactions: sorted inputs in, tables out. Deterministic: the bytes
// of the outputs depend on the inputs' entries and the parameters alone, not on how the inputs are
// split into tables, on codecs, clocks, threads or hashing seeds. That is what lets replicas prove
// each other's work by digest.
//
// A merge may be split into parts at user keys, which are parameters like the others: no two parts
// see each other, so they are merged in any order and at the same time (`JobThreads`).
//
// It balances its books: the sums over all entries that the inputs carry (from the log, and from
// the memtable before that), and over those that folding and filtering made, must equal the sums of
// what was written and what was dropped by rule. So
// an entry lost or altered on the way, by a bug or by memory, is reported with the outputs. Used by
// `FlushJob` and `CompactionJob`.

import Synchronization

/// Everything that shapes the outputs besides the inputs' entries.
package struct MergeParameters: Hashable, Sendable {
    /// Names the outputs: its index and kind, ordinals as `CompactionSpec` has them.
    package var job: JobID
    package var level: UInt8
    package var rules: CompactionRules
    /// Canonical bytes at which an output ends, at the next user key.
    package var targetBytes: UInt64
    package var shape: TableShape
    /// Which values go to blob files. Their blocks are cut as those of the tables.
    package var blobs: BlobPlan
    /// Where one part ends and the next begins, in order.
    package var boundaries: [[UInt8]]

    package init(
        job: JobID, level: UInt8, rules: CompactionRules, targetBytes: UInt64, shape: TableShape,
        blobs: BlobPlan = .off, boundaries: [[UInt8]] = []
    ) {
        self.job = job
        self.level = level
        self.rules = rules
        self.targetBytes = targetBytes
        self.shape = shape
        self.blobs = blobs
        self.boundaries = boundaries
    }

    var partCount: Int { boundaries.count + 1 }
}

/// One sorted source of a merge: a memtable, a table, or the tables of a level in a row.
package struct MergeInput {
    /// One for each part of the merge, all over the same entries.
    package var cursors: [any EntryCursor]
    package var rangeTombstones: [RangeTombstone]
    /// Over all its entries and range tombstones, from a record or a memtable: never computed from
    /// what the cursor yields.
    package var entrySum: UInt64
    /// Point entries, likewise.
    package var entryCount: UInt64

    package init(
        cursors: [any EntryCursor], rangeTombstones: [RangeTombstone], entrySum: UInt64,
        entryCount: UInt64
    ) {
        self.cursors = cursors
        self.rangeTombstones = rangeTombstones
        self.entrySum = entrySum
        self.entryCount = entryCount
    }
}

/// Asks a running merge to stop. Any thread.
package final class CancellationFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    private let other: CancellationFlag?

    /// Cancelled with `other`, too.
    package init(with other: CancellationFlag? = nil) { self.other = other }
    package func cancel() { flag.store(true, ordering: .relaxed) }
    package var isCancelled: Bool {
        flag.load(ordering: .relaxed) || other?.isCancelled == true
    }
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
            count &+= other.count
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
    /// Gives the new, empty file of an output. Called in the order of each kind's ordinals in a
    /// part, from the thread that merges the part.
    package typealias FileFactory =
        @Sendable (_ output: TableID) throws(EngineError) -> any File

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
    /// One part that fails ends all.
    package static func run(
        _ inputs: [MergeInput], _ parameters: MergeParameters, _ storage: Storage,
        functions: JobFunctions = .engine, blobs: BlobFiles = .none,
        cancellation: CancellationFlag = CancellationFlag(), threads: JobThreads? = nil,
        makeFile: @escaping FileFactory
    ) throws(EngineError) -> MergeResult? {
        let tombstones = RangeTombstoneMerge(
            inputs.flatMap(\.rangeTombstones), rules: parameters.rules)
        let flag = CancellationFlag(with: cancellation)
        let parts = (0..<parameters.partCount).map { part in
            MergePart(
                part, inputs.map { $0.cursors[part] }, parameters, storage, tombstones, functions,
                blobs, flag, makeFile)
        }
        if let threads {
            threads.run(parts.count) { parts[$0].run() }
        } else {
            for part in parts { part.run() }
        }
        for part in parts { if case .failure(let error) = part.outcome { throw error } }
        var result = MergeResult(
            outputs: [], dropped: MergeResult.noneDropped, isBalanced: false)
        for part in parts { guard part.add(to: &result) else { return nil } }
        // Tables before blob files, those of each kind in the order of the parts.
        result.outputs =
            result.outputs.filter { !$0.record.isBlob } + result.outputs.filter(\.record.isBlob)
        try MergeOutput.checkCount(result.outputs.count)
        result.isBalanced = isBalanced(inputs, tombstones, result, parts)
        return result
    }

    /// Point entries by their sums and count, range tombstones by theirs (which do not mind being
    /// cut): what came in equals what went out and what was dropped.
    private static func isBalanced(
        _ inputs: [MergeInput], _ tombstones: RangeTombstoneMerge, _ result: MergeResult,
        _ parts: [MergePart]
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
        var pieceSum: UInt64 = 0
        for part in parts {
            sum &+= part.tombstoneEntrySum
            pieceSum &+= part.tombstonePieceSum
        }
        return sum == 0 && count == 0
            && tombstones.inputSum == tombstones.droppedSum &+ pieceSum
    }
}
