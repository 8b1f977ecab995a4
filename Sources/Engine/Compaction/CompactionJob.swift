// Runs the merge that a `compact` entry describes, on this node's files of the inputs. A lost block
// of an input is a typed error: the caller mends it and runs the job again.

package struct CompactionJob {
    private let inputs: [TableHandle]
    private let parameters: MergeParameters

    /// `index` is that of the `compact` entry; `inputs` are the live handles of `spec.inputs`, in
    /// any order. Throws unless they are exactly those, by digest.
    package init(
        _ spec: CompactionSpec, at index: LogIndex, inputs: [TableHandle]
    ) throws(EngineError) {
        let named = Set(spec.inputs)
        let given = Set(inputs.map { CompactionSpec.Input($0.record) })
        guard named == given, inputs.count == spec.inputs.count else {
            throw .invalid(reason: "the tables at hand are not those that job \(index) names")
        }
        self.inputs = inputs
        parameters = MergeParameters(
            job: JobID(index: index, kind: .compaction), level: spec.outputLevel,
            rules: .compaction(
                horizon: spec.horizon, clock: spec.clock, isBottommost: spec.isBottommost),
            targetBytes: spec.targetBytes,
            shape: TableShape(blockBytes: Int(spec.blockBytes), filter: spec.filter))
    }

    /// Nil if cancelled; see `TableMerge.run`.
    package func run(
        codec: BlockCodec, cancellation: CancellationFlag = CancellationFlag(),
        makeFile: TableMerge.FileFactory
    ) throws(EngineError) -> MergeResult? {
        var sources: [MergeInput] = []
        for level in 0..<TableRecord.levelCount {
            let tables = inputs.filter { $0.record.level == level }
            if level == 0 {
                for table in tables { sources.append(try CompactionJob.input([table])) }
            } else if !tables.isEmpty {
                // One after the other in key order: only one of them is open at a time.
                let row = tables.sorted { $0.record.span.start.isKeyBefore($1.record.span.start) }
                sources.append(try CompactionJob.input(row))
            }
        }
        return try TableMerge.run(
            sources, parameters, codec: codec, cancellation: cancellation, makeFile: makeFile)
    }

    private static func input(_ tables: [TableHandle]) throws(EngineError) -> MergeInput {
        var tombstones: [RangeTombstone] = []
        var entrySum: UInt64 = 0
        var entryCount: UInt64 = 0
        for table in tables {
            entrySum &+= table.record.entrySum
            entryCount &+= table.record.entryCount
            guard table.record.rangeTombstoneCount > 0 else { continue }
            tombstones += try table.reader(io: .blocking).rangeTombstones(io: .blocking).tombstones
        }
        return MergeInput(
            cursor: LevelCursor(tables, io: .blocking, fillsCache: false),
            rangeTombstones: tombstones, entrySum: entrySum, entryCount: entryCount)
    }
}
