// The file `jobs`: which attempts at flushes and jobs began and did not end. A job that traps would
// otherwise kill the node again at every start, and every replica with it: after `limit` attempts
// that did not end the node reports the job failed instead of starting it.
//
// Records of 40 bytes, each in its own slot and under its own checksum. A beginning is durable
// before the work starts, an end when `end` returns: three power cuts after the same finished job
// must not make it look like one that kills nodes. A damaged slot is skipped: forgetting an attempt
// costs one more. Layout: docs/formats/jobs.md. One owner at a time.

package final class JobAttempts {
    /// Attempts that may fail to end.
    package static let limit: UInt32 = 3

    package enum Decision: Hashable, Sendable {
        /// Start; this is the n-th attempt of which none has ended.
        case start(attempt: UInt32)
        /// Report the job failed.
        case exhausted
    }

    private let fileSystem: any FileSystem
    private let path: String
    private var file: any File
    private var slots: UInt64 = 0
    /// The first slot that was damaged when the file was opened.
    private(set) var damage: FileDamage?
    /// Attempts that began and did not end.
    private var open: [JobID: UInt32] = [:]
    private var running = Set<JobID>()

    private static let slotBytes = 40
    /// Slots after which the file is written anew.
    private static let slotsMax: UInt64 = 4096

    private init(_ fileSystem: any FileSystem, _ path: String, _ file: any File) {
        self.fileSystem = fileSystem
        self.path = path
        self.file = file
    }

    /// Opens or creates the file.
    package static func open(_ fileSystem: any FileSystem, path: String) throws(EngineError)
        -> JobAttempts
    {
        do throws(FileError) {
            let isNew = !fileSystem.exists(path)
            let file = try fileSystem.open(path, .createOrWrite)
            if isNew { try fileSystem.syncDirectory(parentDirectory(of: path)) }
            let attempts = JobAttempts(fileSystem, path, file)
            try attempts.read()
            return attempts
        } catch { throw .file(error) }
    }

    /// Writes the file anew if a slot of it is damaged. Without space for that it stays as it is.
    package func mend() throws(EngineError) {
        guard damage != nil else { return }
        do throws(FileError) { try rewrite() } catch {
            guard error.isNoSpace else { throw .file(error) }
        }
    }

    /// Attempts at `job` that did not end, the running one included.
    package func unfinished(_ job: JobID) -> UInt32 { open[job] ?? 0 }

    /// To be asked before a job starts. The attempt is durable when this returns `.start`.
    package func begin(_ job: JobID) throws(EngineError) -> Decision {
        invariant(!running.contains(job), "one attempt at a job at a time")
        let attempt = unfinished(job) + 1
        guard attempt <= JobAttempts.limit else { return .exhausted }
        do throws(FileError) {
            try makeRoom()
            try write(job, attempt)
            try file.sync()
        } catch { throw .file(error) }
        open[job] = attempt
        running.insert(job)
        return .start(attempt: attempt)
    }

    /// The attempt came to an end: with outputs, or with an error that was reported.
    package func end(_ job: JobID) throws(EngineError) {
        invariant(running.remove(job) != nil, "only a running attempt ends")
        try set(job, 0)
        do throws(FileError) { try file.sync() } catch { throw .file(error) }
    }

    /// The node stops in order; what was running does not count.
    package func stop() throws(EngineError) {
        for job in running.sorted() { try set(job, unfinished(job) - 1) }
        running.removeAll()
        do throws(FileError) { try file.sync() } catch { throw .file(error) }
    }

    /// The log has concluded the job, or a heal, an upgrade or an operator gives it new attempts.
    package func forget(_ job: JobID) throws(EngineError) {
        guard open[job] != nil, !running.contains(job) else { return }
        try set(job, 0)
    }

    private func set(_ job: JobID, _ attempt: UInt32) throws(EngineError) {
        open[job] = attempt == 0 ? nil : attempt
        do throws(FileError) { try write(job, attempt) } catch { throw .file(error) }
    }

    // MARK: - Slots

    private static let magic: UInt32 = 0x534a_424f  // "OBJS"
    private static let version: UInt16 = 1

    private static func slot(_ job: JobID, _ attempt: UInt32) -> [UInt8] {
        var writer = ByteWriter(capacity: slotBytes)
        writer.write(magic)
        writer.write(version)
        writer.write(job.kind.rawValue)
        writer.write(UInt8(0))
        writer.write(job.index.rawValue)
        writer.write(attempt)
        writer.write(UInt32(0))
        writer.write(Digest128(of: writer.bytes))
        return writer.bytes
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer) -> (JobID, UInt32)? {
        do throws(DecodingError) {
            var reader = ByteReader(bytes)
            guard try reader.read(UInt32.self) == magic, try reader.read(UInt16.self) == version,
                let kind = TableKind(rawValue: try reader.read(UInt8.self)), !kind.isBlob,
                try reader.read(UInt8.self) == 0
            else { return nil }
            let job = JobID(index: try reader.readLogIndex(), kind: kind)
            let attempt = try reader.read(UInt32.self)
            _ = try reader.read(UInt32.self)
            let sealed = UnsafeRawBufferPointer(rebasing: bytes[..<24])
            guard try reader.readDigest() == Digest128(of: sealed) else { return nil }
            return (job, min(attempt, limit))
        } catch { return nil }
    }

    private func write(_ job: JobID, _ attempt: UInt32) throws(FileError) {
        try file.writeAll(
            JobAttempts.slot(job, attempt), at: slots * UInt64(JobAttempts.slotBytes))
        slots += 1
    }

    private func read() throws(FileError) {
        // The file is written anew long before it is larger; what is beyond is not ours.
        let limit = JobAttempts.slotsMax * 2 * UInt64(JobAttempts.slotBytes)
        let bytes = try file.readBytes(at: 0, count: Int(min(try file.size(), limit)))
        let size = JobAttempts.slotBytes
        bytes.withUnsafeBytes { buffer in
            for start in stride(from: 0, through: buffer.count - size, by: size) {
                let slot = UnsafeRawBufferPointer(rebasing: buffer[start..<(start + size)])
                guard let (job, attempt) = JobAttempts.parse(slot) else {
                    if damage == nil { damage = FileDamage(at: UInt64(start), "a slot is damaged") }
                    continue
                }
                open[job] = attempt == 0 ? nil : attempt
            }
        }
        slots = UInt64((bytes.count + size - 1) / size)
        let rest = bytes.count % size
        if rest != 0, damage == nil {
            damage = FileDamage(at: UInt64(bytes.count - rest), "the file ends within a slot")
        }
    }

    /// Writes the file anew, with one slot for each open attempt, when it has grown long.
    private func makeRoom() throws(FileError) {
        guard slots >= JobAttempts.slotsMax else { return }
        try rewrite()
    }

    private func rewrite() throws(FileError) {
        var bytes: [UInt8] = []
        for (job, attempt) in open.sorted(by: { $0.key < $1.key }) {
            bytes += JobAttempts.slot(job, attempt)
        }
        try fileSystem.replace(path, with: bytes)
        file = try fileSystem.open(path, .write)
        slots = UInt64(bytes.count / JobAttempts.slotBytes)
    }
}
