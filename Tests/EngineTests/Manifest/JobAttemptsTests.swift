// A job that kills the process is not started a fourth time.
import Engine
import Testing

private let path = "/g/jobs"
private let job = JobID(index: LogIndex(7), kind: .compaction)
private let segment = JobID(index: LogIndex(7), kind: .flush)

private func newDisk(seed: UInt64 = 1) throws -> MemoryFileSystem {
    let disk = MemoryFileSystem(seed: seed)
    try disk.createDirectory("/g")
    try disk.syncDirectory("/")
    return disk
}

@Suite struct JobAttemptsTests {
    @Test func threeAttemptsThatDoNotEnd() throws {
        for seed: UInt64 in 1...20 {
            let disk = try newDisk(seed: seed)
            for attempt: UInt32 in 1...3 {
                let attempts = try JobAttempts.open(disk, path: path)
                #expect(try attempts.begin(job) == .start(attempt: attempt))
                disk.powerCut()
            }
            let attempts = try JobAttempts.open(disk, path: path)
            #expect(try attempts.begin(job) == .exhausted)
            #expect(try attempts.begin(segment) == .start(attempt: 1), "work is told apart")
            try attempts.forget(job)
            #expect(try attempts.begin(job) == .start(attempt: 1))
        }
    }

    @Test func attemptsThatEndDoNotCount() throws {
        let disk = try newDisk()
        for _ in 0..<5 {
            let attempts = try JobAttempts.open(disk, path: path)
            #expect(try attempts.begin(job) == .start(attempt: 1))
            try attempts.end(job)
        }
    }

    @Test func anOrderlyStopDoesNotCount() throws {
        let disk = try newDisk()
        for round in 0..<5 {
            let attempts = try JobAttempts.open(disk, path: path)
            #expect(try attempts.begin(job) == .start(attempt: 1), "round \(round)")
            try attempts.stop()
            disk.powerCut()
        }
        var attempts = try JobAttempts.open(disk, path: path)
        _ = try attempts.begin(job)
        attempts = try JobAttempts.open(disk, path: path)
        #expect(try attempts.begin(job) == .start(attempt: 2))
        try attempts.stop()
        #expect(try JobAttempts.open(disk, path: path).unfinished(job) == 1)
    }

    @Test func damagedSlotsAreSkipped() throws {
        let disk = try newDisk()
        let attempts = try JobAttempts.open(disk, path: path)
        _ = try attempts.begin(job)
        _ = try attempts.begin(segment)
        let size = try disk.open(path, .read).size()
        for offset in 0..<size {
            let copy = disk.snapshotAfterPowerCut()
            copy.flip(path, offset)
            let again = try JobAttempts.open(copy, path: path)
            #expect(again.unfinished(job) == (offset < 40 ? 0 : 1))
            #expect(again.unfinished(segment) == (offset < 40 ? 1 : 0))
        }
        try disk.open(path, .write).truncate(to: 55)
        let again = try JobAttempts.open(disk, path: path)
        #expect(again.unfinished(job) == 1)
        #expect(try again.begin(segment) == .start(attempt: 1))
        #expect(try JobAttempts.open(disk, path: path).unfinished(segment) == 1)
    }

    @Test func theFileStaysShort() throws {
        let disk = try newDisk()
        let attempts = try JobAttempts.open(disk, path: path)
        _ = try attempts.begin(job)
        for index: UInt64 in 100..<5000 {
            let other = JobID(index: LogIndex(index), kind: .flush)
            _ = try attempts.begin(other)
            try attempts.end(other)
        }
        #expect(try disk.open(path, .read).size() <= 4098 * 40)
        disk.powerCut()
        #expect(try JobAttempts.open(disk, path: path).unfinished(job) == 1)
    }

    @Test func bytesNeverChange() throws {
        let disk = try newDisk()
        let attempts = try JobAttempts.open(disk, path: path)
        _ = try attempts.begin(job)
        let bytes = try disk.readAll(path, limit: 1 << 20)
        #expect(
            Array(bytes[..<24])
                == [0x4f, 0x42, 0x4a, 0x53, 1, 0, 0x63, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
                + [0, 0, 0, 0])
        #expect(Digest128(of: bytes).description == "c088302d247aa46a78018ffba9272f6a")
    }
}
