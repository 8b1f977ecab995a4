// Runs the merge that a `compact` entry describes, on this node's files of the inputs. A lost block
// of an input is a typed error: the caller mends it and runs the job again.

package struct CompactionJob {
    private let spec: CompactionSpec
    private let inputs: [TableHandle]
    private let witnesses: [TableHandle]
    private let blobs: BlobFiles
    private let parameters: MergeParameters
    private let functions: JobFunctions

    /// `index` is that of the `compact` entry; `inputs` are the live handles of `spec.inputs`, in
    /// any order, `witnesses` likewise; `blobs` are those that the inputs refer to. Throws unless
    /// they are exactly those, by digest, and all functions that the spec names are in `registry`.
    package init(
        _ spec: CompactionSpec, at index: LogIndex, inputs: [TableHandle],
        witnesses: [TableHandle] = [], blobs: BlobFiles = .none,
        registry: FunctionRegistry = .empty
    ) throws(EngineError) {
        for (named, given) in [(spec.inputs, inputs), (spec.witnesses, witnesses)] {
            guard Set(named) == Set(given.map { CompactionSpec.Input($0.record) }),
                named.count == given.count
            else {
                throw .invalid(reason: "the tables at hand are not those that job \(index) names")
            }
        }
        functions = try JobFunctions(spec.functions, from: registry)
        self.spec = spec
        self.inputs = inputs
        self.witnesses = witnesses
        self.blobs = blobs
        parameters = MergeParameters(
            job: JobID(index: index, kind: .compaction), level: spec.outputLevel,
            rules: .compaction(
                horizon: spec.horizon, clock: spec.clock, isBottommost: spec.isBottommost),
            targetBytes: spec.targetBytes,
            shape: TableShape(blockBytes: Int(spec.blockBytes), filter: spec.filter),
            blobs: BlobPlan(collecting: spec.collected, fileBytes: spec.blobFileBytes),
            boundaries: spec.boundaries)
    }

    /// Nil if cancelled; see `TableMerge.run`. Without `threads` this one does all parts.
    package func run(
        codec: Compression, blobCodec: Compression? = nil, keys: KeyRing = .plain,
        cancellation: CancellationFlag = CancellationFlag(), threads: JobThreads? = nil,
        makeFile: @escaping TableMerge.FileFactory
    ) throws(EngineError) -> MergeResult? {
        guard witnesses.isEmpty else { return try dropCovered() }
        var sources: [MergeInput] = []
        for level in 0..<TableRecord.levelCount {
            let tables = inputs.filter { $0.record.level == level }
            if level == 0 {
                for table in tables { sources.append(try input([table])) }
            } else if !tables.isEmpty {
                // One after the other in key order: a part has only one of them open at a time.
                let row = tables.sorted { $0.record.span.start.isKeyBefore($1.record.span.start) }
                sources.append(try input(row))
            }
        }
        return try TableMerge.run(
            sources, parameters,
            TableMerge.Storage(codec: codec, blobCodec: blobCodec, keys: keys),
            functions: functions, blobs: blobs, cancellation: cancellation, threads: threads,
            makeFile: makeFile)
    }

    /// Lets all inputs go, unread, once the witnesses prove that nobody can see any of them. Every
    /// member looks for itself: the leader is not believed.
    private func dropCovered() throws(EngineError) -> MergeResult {
        var tombstones: [RangeTombstone] = []
        for witness in witnesses {
            tombstones += try witness.reader(io: .blocking).rangeTombstones(io: .blocking)
                .tombstones
        }
        let cover = RangeTombstoneList(tombstones)
        var dropped = MergeResult.noneDropped
        for input in inputs {
            guard cover.hides(input.record, at: spec.horizon) else {
                throw .invalid(
                    reason: "no range tombstones hide all of table \(input.id), which was to go")
            }
            let reason = CompactionRules.DropReason.rangeDeleted.rawValue
            dropped[reason].count &+= input.record.entryCount
            dropped[reason].entrySum &+= input.record.entrySum
        }
        return MergeResult(outputs: [], dropped: dropped, isBalanced: true)
    }

    private func input(_ tables: [TableHandle]) throws(EngineError) -> MergeInput {
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
            cursors: (0..<parameters.partCount).map { _ in
                LevelCursor(tables[...], io: .blocking, fillsCache: false)
            },
            rangeTombstones: tombstones, entrySum: entrySum, entryCount: entryCount)
    }
}
