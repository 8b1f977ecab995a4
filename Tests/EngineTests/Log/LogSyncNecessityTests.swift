// Every sync of the append, rewind and hard-state paths is needed: a run that leaves out any single
// one loses something to a power cut that the full run keeps.
import Engine
import Testing

/// One scripted run. After each step that promises something, copies of the disk as power cuts
/// would leave it are opened and looked at.
private final class SyncScript {
    let rig: LogRig
    private let seeds: Int
    private var promised: [Entry] = []
    private var vote = Term.zero
    /// The first thing found lost.
    private(set) var loss: String?

    init(seeds: Int) throws {
        rig = try LogRig(seed: 77)
        self.seeds = seeds
    }

    func run() throws {
        append(3, bytes: 900)
        try saveVote(2)
        append(8, bytes: 900)  // across a boundary: file, next file, directory
        appendUnsynced(2, bytes: 300)
        try syncLog()
        try truncate(after: 3)  // across boundaries: state, directory
        append(6, bytes: 50, term: 2)  // past the name of the segment that was unlinked
        try truncate(after: 8)  // within a segment: state
        append(1, bytes: 50, term: 3)
        try saveVote(3)
        append(9, bytes: 1500, term: 3)
        try truncate(after: 12)  // across boundaries again
        append(10, bytes: 50, term: 4)
        try truncate(after: 20)
        append(1, bytes: 50, term: 5)
        try truncate(after: 18)
        appendUnsynced(5, bytes: 50, term: 6)
        try truncate(after: 21)  // keeps what was not durable yet: file, state
        append(1, bytes: 50, term: 7)
    }

    private func append(_ count: Int, bytes: Int, term: UInt64 = 1) {
        promise("append") { promised += try rig.append(count, term: term, bytes: bytes) }
    }

    private func appendUnsynced(_ count: Int, bytes: Int, term: UInt64 = 1) {
        guard loss == nil else { return }
        do {
            promised += try rig.append(count, term: term, bytes: bytes, sync: false)
        } catch { loss = "\(error)" }
    }

    private func syncLog() throws { promise("sync") { _ = try rig.log.sync() } }

    private func truncate(after index: Int) throws {
        promise("truncation") {
            try rig.log.truncate(after: LogIndex(UInt64(index)))
            promised.removeLast(promised.count - index)
        }
    }

    private func saveVote(_ term: UInt64) throws {
        promise("vote") {
            try rig.hardState.saveVote(term: Term(term), vote: MemberID(1))
            vote = Term(term)
        }
    }

    private func promise(_ name: String, _ body: () throws -> Void) {
        guard loss == nil else { return }
        do {
            try body()
            for _ in 0..<seeds where loss == nil {
                let copy = try LogRig(afterPowerCutOf: rig)
                if try copy.all().headers != promised.headers || !copy.recovery.holes.isEmpty {
                    loss = "entries after \(name)"
                }
                if copy.hardState.current.term != vote { loss = "a vote after \(name)" }
            }
        } catch { loss = "\(error) at \(name)" }
    }
}

@Suite struct LogSyncNecessityTests {
    @Test func everySyncOfAppendRewindAndVoteIsNeeded() throws {
        let full = try SyncScript(seeds: 48)
        let before = full.rig.fileSystem.syncCount
        try full.run()
        #expect(full.loss == nil, "\(full.loss ?? "")")
        let after = full.rig.fileSystem.syncCount
        #expect(after - before > 20)
        for number in (before + 1)...after {
            let script = try SyncScript(seeds: 48)
            #expect(script.rig.fileSystem.syncCount == before)
            script.rig.fileSystem.skipSync = [number]
            try script.run()
            #expect(
                script.loss != nil, "sync \(number - before) of \(after - before) is not needed")
        }
    }

    @Test func everySyncOfCreatingAndCountingAStartIsNeeded() throws {
        // Directory and first count; then the count of a second start.
        var needed: Set<Int> = []
        for number in 2...4 {
            for seed in 1...20 as ClosedRange<UInt64> {
                let files = MemoryFileSystem(seed: seed)
                files.skipSync = [number]
                _ = try HardState.open(files, "state", nonce: 1)
                files.powerCut()
                let second = try HardState.open(files, "state", nonce: 2)
                let isSecondRight = second.current.bootCounter == 2 && second.isVoteTrusted
                files.powerCut()
                let third = try HardState.open(files, "state", nonce: 3)
                let isThirdRight = third.current.bootCounter == 3 && third.isVoteTrusted
                if !isSecondRight || !isThirdRight { needed.insert(number) }
            }
        }
        #expect(needed == [2, 3, 4])
        // The file itself, for a crash before the first count.
        var isNeeded = false
        for seed in 1...20 as ClosedRange<UInt64> {
            let files = MemoryFileSystem(seed: seed)
            files.skipSync = [1]
            files.stop(after: 5)  // creation, write, sync, rename, sync of the directory
            #expect(throws: EngineError.self) { try HardState.open(files, "state", nonce: 1) }
            files.powerCut()
            if try !HardState.open(files, "state", nonce: 2).isVoteTrusted { isNeeded = true }
        }
        #expect(isNeeded)
    }

    @Test func whatAnOpenShowsIsSyncedBeforeItCounts() throws {
        // The sync of the segment and that of the directory, as the open that follows a kill makes
        // them.
        var lossesByOffset: [Int: Bool] = [:]
        for seed in 1...12 as ClosedRange<UInt64> {
            let syncs = try openAfterUnsyncedAppends(seed: seed, skipping: nil).syncs
            for skipped in 0..<syncs {
                let run = try openAfterUnsyncedAppends(seed: seed, skipping: skipped)
                lossesByOffset[skipped, default: false] =
                    lossesByOffset[skipped, default: false] || run.isLost
            }
        }
        // In order: the start's count, the two segments, the directory, the cut.
        #expect(lossesByOffset[1] == true && lossesByOffset[2] == true)
        #expect(lossesByOffset[3] == true)
        #expect(lossesByOffset.count == 5)
    }

    private func openAfterUnsyncedAppends(seed: UInt64, skipping: Int?) throws -> (
        syncs: Int, isLost: Bool
    ) {
        let rig = try LogRig(seed: seed)
        try rig.append(2)
        try rig.append(6, bytes: 900, sync: false)
        let before = rig.fileSystem.syncCount
        if let skipping { rig.fileSystem.skipSync = [before + 1 + skipping] }
        try rig.kill()
        let syncs = rig.fileSystem.syncCount - before
        let shown = try rig.all()
        try rig.powerCut()
        let isLost = try rig.all().headers != shown.headers || !rig.recovery.holes.isEmpty
        if skipping == nil { #expect(!isLost) }
        return (syncs, isLost)
    }

    @Test func everySyncOfMendingIsNeeded() throws {
        // The new file, then the directory.
        for skipped in 1...3 {
            var isLost = false
            for seed in 1...12 as ClosedRange<UInt64> {
                let rig = try LogRig(seed: seed)
                let stored = try rig.append(12, bytes: 900)
                try rig.rotEntry(stored[6], in: 6)
                try rig.kill()
                #expect(rig.recovery.holes.count == 1)
                let before = rig.fileSystem.syncCount
                rig.fileSystem.skipSync = [before + skipped]
                try rig.log.mend(stored[6])
                #expect(rig.fileSystem.syncCount == before + 2)
                try rig.powerCut()
                if try rig.all().headers != stored.headers { isLost = true }
            }
            // There is no third one.
            #expect(isLost == (skipped < 3))
        }
    }
}
