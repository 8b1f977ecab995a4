// Turns the memtable of a log segment into level-0 tables. Every replica does it from its own
// memtable and gets the same bytes.

package struct FlushJob {
    /// Canonical bytes at which a flush begins another table: a constant, since no entry carries
    /// it. Only a segment with one huge entry comes near.
    package static let targetBytes: UInt64 = 256 << 20

    private let memtable: Memtable
    private let parameters: MergeParameters

    /// `memtable` is full: nobody writes to it any more. `lastIndex` is the segment's last entry,
    /// `horizon` that of its last write (nil: nothing may be dropped).
    package init(
        _ memtable: Memtable, lastIndex: LogIndex, shape: TableShape, blobs: BlobPlan = .off,
        horizon: SequenceNumber?
    ) {
        self.memtable = memtable
        parameters = MergeParameters(
            job: JobID(index: lastIndex, kind: .flush), level: 0, rules: .flush(horizon: horizon),
            targetBytes: FlushJob.targetBytes, shape: shape, blobs: blobs)
    }

    /// Nil if cancelled; see `TableMerge.run`.
    package func run(
        codec: Compression, keys: KeyRing = .plain,
        cancellation: CancellationFlag = CancellationFlag(),
        makeFile: @escaping TableMerge.FileFactory
    ) throws(EngineError) -> MergeResult? {
        let input = MergeInput(
            cursors: [memtable.makeCursor()], rangeTombstones: memtable.rangeTombstones.tombstones,
            entrySum: memtable.entrySum, entryCount: UInt64(memtable.entryCount))
        return try TableMerge.run(
            [input], parameters, TableMerge.Storage(codec: codec, keys: keys),
            cancellation: cancellation, makeFile: makeFile)
    }
}
