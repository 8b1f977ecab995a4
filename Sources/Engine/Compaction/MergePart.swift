// One part of a merge: the keys between two of its boundaries, from all inputs, into outputs of its
// own. Parts share nothing that changes, so what one writes does not depend on when and where the
// others run. Range tombstones were brought together for the whole merge (`RangeTombstoneMerge`)
// and are clipped here, as where one output ends and the next begins. Used by `TableMerge` alone.

final class MergePart: @unchecked Sendable {
    // Unchecked: made by the thread of the job, run by the one that takes the part, then asked by
    // the job's again; `JobThreads` hands over.
    private let output: MergeOutput
    private let pass: MergePass
    private let cancellation: CancellationFlag

    /// What it wrote: tables, then blob files. Nil if it was cancelled, or did not run.
    private(set) var outcome: Result<[MergeResult.Output]?, EngineError> = .success(nil)

    init(
        _ number: Int, _ cursors: [any EntryCursor], _ parameters: MergeParameters,
        _ storage: TableMerge.Storage, _ tombstones: RangeTombstoneMerge,
        _ functions: JobFunctions, _ blobs: BlobFiles, _ cancellation: CancellationFlag,
        _ makeFile: @escaping TableMerge.FileFactory
    ) {
        let span = KeySpan.part(number, of: parameters.boundaries)
        var parameters = parameters
        parameters.blobs.bounds = parameters.blobs.bounds.share(of: parameters.partCount)
        output = MergeOutput(
            parameters, part: number, storage,
            tombstones: MergePart.clip(tombstones.kept, to: span), blobSources: blobs,
            makeFile: makeFile)
        pass = MergePass(
            MergingCursor.over(cursors), over: span, to: output, parameters.rules, functions,
            CoveringWalk(tombstones.covering), blobs)
        self.cancellation = cancellation
    }

    /// Runs once.
    func run() {
        do throws(EngineError) {
            guard !cancellation.isCancelled, try pass.run(cancellation) else { return }
            outcome = .success(try output.finish())
        } catch {
            // The others need not go on.
            cancellation.cancel()
            outcome = .failure(error)
        }
    }

    /// Adds what it did; false if it did not come to its end.
    func add(to result: inout MergeResult) -> Bool {
        guard case .success(.some(let outputs)) = outcome else { return false }
        result.outputs += outputs
        for (reason, dropped) in pass.dropped.enumerated() { result.dropped[reason].add(dropped) }
        result.created.add(pass.created)
        result.created.add(output.blobs.created)
        let collected = CompactionRules.DropReason.collected.rawValue
        result.dropped[collected].add(output.blobs.collectedReferences)
        return true
    }

    var tombstoneEntrySum: UInt64 { output.tombstoneEntrySum }
    var tombstonePieceSum: UInt64 { output.tombstonePieceSum }

    /// What of `tombstones` lies in `span`, by start and then newest first.
    private static func clip(_ tombstones: [RangeTombstone], to span: KeySpan) -> [RangeTombstone] {
        guard span != .everything else { return tombstones }
        var entered: [RangeTombstone] = []
        var rest: [RangeTombstone] = []
        for tombstone in tombstones where tombstone.span.overlaps(span) {
            var clipped = tombstone
            if let end = span.end, clipped.span.end.map({ end.isKeyBefore($0) }) ?? true {
                clipped.span.end = end
            }
            guard clipped.span.start.isKeyBefore(span.start) else {
                rest.append(clipped)
                continue
            }
            clipped.span.start = span.start
            entered.append(clipped)
        }
        guard !entered.isEmpty else { return rest }
        // Those that come from below begin together with the ones that begin at the boundary.
        let begun = rest.prefix { $0.span.start == span.start }
        let first = (entered + begun).sorted { $0.sequence > $1.sequence }
        return first + rest.dropFirst(begun.count)
    }
}
