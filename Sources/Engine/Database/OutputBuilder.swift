// Runs a flush or a job on files: outputs are written under `staged/`, synced, then moved to their
// final names, where no manifest names them yet. A crash leaves orphans, which the next open
// removes; the work is done again, with the same bytes.

struct OutputBuilder: Sendable {
    let files: StoreFiles
    let index: LogIndex
    let kind: TableKind
    let options: StoreOptions
    let functions: FunctionRegistry
    var pacer: CompactionPacer?
    /// Which do the parts of a job.
    var threads: JobThreads?
    /// Differs from that of an earlier output: a reader may still hold that file, and unlinks it
    /// when done.
    var generation: UInt32 = 0

    func flush(_ segment: FrozenSegment) throws(EngineError) -> JobResult {
        let job = FlushJob(
            segment.memtable, lastIndex: index, shape: segment.shape, blobs: segment.blobs,
            horizon: segment.horizon == .zero ? nil : segment.horizon)
        let merged = try job.run(codec: options.compression[0], keys: files.keys) {
            (id) throws(EngineError) in
            try makeFile(id)
        }
        guard let merged else { brokenInvariant("a flush was cancelled") }
        return try publish(merged)
    }

    func compact(
        _ spec: CompactionSpec, _ inputs: [TableHandle], witnesses: [TableHandle],
        blobs: BlobFiles, cancellation: CancellationFlag
    ) throws(JobFailure) -> JobResult {
        do throws(EngineError) {
            let job = try CompactionJob(
                spec, at: index, inputs: inputs, witnesses: witnesses, blobs: blobs,
                registry: functions)
            let merged = try job.run(
                codec: options.compression[spec.outputLevel],
                blobCodec: options.compression[0], keys: files.keys, cancellation: cancellation,
                threads: threads
            ) { (id) throws(EngineError) in
                try makeFile(id)
            }
            if let merged { return try publish(merged) }
        } catch {
            removeStaged()
            throw OutputBuilder.judge(error, blobs)
        }
        removeStaged()
        throw .cancelled
    }

    /// What may pass is tried again; what repeats on the same inputs is reported.
    private static func judge(_ error: EngineError, _ blobs: BlobFiles) -> JobFailure {
        switch error {
        case .corrupt, .invalid, .limit: return .failed("\(error)")
        case .tableLost(let file, _) where file.kind.isBlob && !blobs.contains(file):
            return .failed("\(error)")
        default: return .transient(error)
        }
    }

    private func makeFile(_ id: TableID) throws(EngineError) -> any File {
        let path =
            files.staged + "/" + TableHandle.fileName(id, generation: UInt64(generation))
        return try engineError { () throws(FileError) in
            if files.fileSystem.exists(path) { try files.fileSystem.unlink(path) }
            let file = try files.fileSystem.open(path, .create)
            return pacer.map { PacedFile(file, $0) } ?? file
        }
    }

    private func publish(_ merged: MergeResult) throws(EngineError) -> JobResult {
        var built: [BuiltTable] = []
        for output in merged.outputs {
            let name = TableHandle.fileName(
                output.record.id, generation: UInt64(generation))
            try engineError { () throws(FileError) in
                try files.fileSystem.rename(
                    files.staged + "/" + name, to: files.tables + "/" + name)
            }
            built.append(
                BuiltTable(
                    record: output.record,
                    local: LocalTable(
                        generation: generation,
                        codec: options.compression[output.record.level].codec.rawValue,
                        fileBytes: output.fileBytes),
                    rangeTombstones: output.rangeTombstones))
        }
        return JobResult(tables: built, isBalanced: merged.isBalanced)
    }

    /// Best effort: what stays is an orphan that the next open removes.
    private func removeStaged() {
        do throws(FileError) {
            for name in try files.fileSystem.list(files.staged) where isOwn(name) {
                try files.fileSystem.unlink(files.staged + "/" + name)
            }
        } catch {}
    }

    /// A job that ended a segment has the index of its flush, and a heal may write a table that an
    /// earlier attempt made.
    private func isOwn(_ name: String) -> Bool {
        guard let (id, generation) = TableHandle.parse(fileName: name) else { return false }
        return id.index == index && id.kind.isFlush == kind.isFlush
            && generation == self.generation
    }
}

/// Runs file operations and wraps their error.
package func engineError<R>(_ body: () throws(FileError) -> R) throws(EngineError) -> R {
    do throws(FileError) { return try body() } catch { throw .file(error) }
}
