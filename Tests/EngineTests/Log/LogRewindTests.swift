// Truncation of an uncommitted suffix, and everything that can come back from behind it.
import Engine
import Testing

@Suite struct LogRewindTests {
    @Test(arguments: [LogSyncPolicy.always, .never])
    func aTruncationIsFinalAndTheLogGoesOn(_ policy: LogSyncPolicy) throws {
        let rig = try LogRig(sync: policy)
        let stored = try rig.append(20, bytes: 600)
        for (cut, term) in [(15, 2), (14, 3), (7, 4), (3, 5), (0, 6)] as [(Int, UInt64)] {
            try rig.log.truncate(after: LogIndex(UInt64(cut)))
            #expect(rig.log.last.index == LogIndex(UInt64(cut)))
            #expect(try rig.all().headers == stored.prefix(cut).map(\.header))
            #expect(rig.log.durable.index <= LogIndex(UInt64(cut)))
            let copy = try LogRig(afterPowerCutOf: rig)
            if policy == .always {
                #expect(try copy.all().headers == stored.prefix(cut).map(\.header))
            }
            let more = try rig.append(2, term: term, bytes: 300)
            try rig.kill()
            #expect(try rig.all().headers == stored.prefix(cut).map(\.header) + more.headers)
            try rig.log.truncate(after: LogIndex(UInt64(cut)))
        }
    }

    /// Stale frames put back behind new ones, as a truncation of the file that was lost would.
    @Test(arguments: [1, 9] as [UInt64])
    func staleEntriesBehindATruncation(_ staleTerm: UInt64) throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let kept = try rig.append(3)
        try rig.append(1, term: staleTerm, bytes: 300)
        try rig.append(5, term: staleTerm, bytes: 300)
        let image = try rig.raw(rig.path(1))
        try rig.log.truncate(after: LogIndex(3))
        try rig.poke(rig.path(1), at: 0, image)
        // Nothing new yet: the record alone rules them out.
        try rig.kill()
        #expect(try rig.all().headers == kept.headers)
        #expect(rig.recovery.holes.isEmpty)

        try rig.poke(rig.path(1), at: 0, image)
        let term = max(staleTerm == 9 ? 2 : 3, 1) as UInt64
        let fresh = try rig.append(1, term: term, bytes: 300)
        let behind = try rig.frameOffset(fresh[0], in: rig.path(1)) + 512
        try rig.poke(rig.path(1), at: behind, Array(image[behind...]))
        try rig.kill()
        #expect(try rig.all().headers == (kept + fresh).headers)
        #expect(rig.recovery.holes.isEmpty)
    }

    /// The first segment as it was before the entries behind the third were truncated.
    private func threeKept(_ rig: LogRig, truncated count: Int) throws -> ([Entry], image: [UInt8])
    {
        let kept = try rig.append(3)
        for _ in 0..<count { try rig.append(1, bytes: 300, salt: 1) }
        let image = try rig.raw(rig.path(1))
        try rig.log.truncate(after: LogIndex(3))
        return (kept, image)
    }

    /// New entries that took the place of truncated ones never reached the medium, and later ones,
    /// which say that they were committed, did: a hole in which the old ones stand. The log's end is
    /// above it from then on.
    @Test func staleEntriesWithinAHole() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let (kept, image) = try threeKept(rig, truncated: 4)
        var fresh: [Entry] = []
        for _ in 0..<4 { fresh += try rig.append(1, term: 2, bytes: 300) }
        fresh += try rig.append(2, term: 2, bytes: 300, commit: 7)
        let start = try rig.frameOffset(fresh[0], in: rig.path(1))
        let end = try rig.frameOffset(fresh[4], in: rig.path(1))
        try rig.poke(rig.path(1), at: start, Array(image[start..<min(end, image.count)]))
        try expectHole(rig, behind: kept, fresh, through: 3)
    }

    /// However often it is opened, the entries behind `kept` are lost, those of `fresh` through the
    /// place `end`, and nothing else stands in their place.
    private func expectHole(
        _ rig: LogRig, behind kept: [Entry], _ fresh: [Entry], through end: Int
    ) throws {
        for _ in 0..<3 {
            try rig.kill()
            #expect(try rig.all().headers == kept.headers)
            let hole = LogHole(
                lower: fresh[0].index, upper: fresh[end].index,
                checksum: fresh[end].header.checksum)
            #expect(rig.recovery.holes == [hole])
            #expect(rig.log.last == fresh[fresh.count - 1].position)
        }
    }

    /// The same where the hole is the end of a segment that is not the last.
    @Test func staleEntriesWithinAHoleAtASegmentsEnd() throws {
        let rig = try LogRig(segmentBytes: 2000)
        let (kept, image) = try threeKept(rig, truncated: 2)
        var fresh: [Entry] = []
        for _ in 0..<3 { fresh += try rig.append(1, term: 2, bytes: 600) }
        fresh += try rig.append(2, term: 2, bytes: 300, commit: 6)
        #expect(try rig.segmentFirsts().sorted() == [1, 7])
        let size = try rig.raw(rig.path(1)).count
        try rig.poke(
            rig.path(1), at: 0,
            image + [UInt8](repeating: 0, count: max(0, size - image.count)))
        try expectHole(rig, behind: kept, fresh, through: 2)
    }

    @Test func rotAboveATruncation() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(4) + rig.append(4)
        let image = try rig.raw(rig.path(1))
        try rig.log.truncate(after: LogIndex(5))
        try rig.poke(rig.path(1), at: 0, image)
        // What was promised above the cut is not any more: damage there is no hole.
        try rig.rotEntry(stored[6], in: 1)
        try rig.rotEntry(stored[5], in: 1)
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == stored.prefix(5).map(\.header))
    }

    /// Of the entry before the cut nothing is known, after a restart either: what a leader sends next
    /// is taken, and names it.
    @Test func aCutWithinLostEntries() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(10) + rig.append(2)
        for entry in stored[5..<10] { try rig.rotEntry(entry, in: 1) }
        try rig.kill()
        #expect(rig.log.holes.map(\.upper) == [LogIndex(10)])
        try rig.log.truncate(after: LogIndex(8))
        try rig.kill()
        #expect(rig.log.holes.map(\.upper) == [LogIndex(8)])
        try rig.log.append([stored[8]], sync: true)
        #expect(rig.log.last == stored[8].position)
        #expect(rig.log.holes.map(\.checksum) == [stored[7].header.checksum])
    }

    @Test func volatilePageFromBeforeARewind() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        try rig.append(8)
        let state = try rig.fileSystem.open(LogRig.statePath, .write)
        let pages = try [4, 5].map { try state.readBytes(at: $0 * 65536, count: 512) }
        try rig.log.truncate(after: LogIndex(3))
        for (slot, page) in pages.enumerated() {
            try state.writeAll(page, at: UInt64(slot + 4) * 65536)
        }
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(rig.log.last.index == LogIndex(3))
    }

    @Test func restartLongAfterARewind() throws {
        let rig = try LogRig()
        let kept = try rig.append(6, bytes: 500)
        try rig.append(9, term: 1, bytes: 500)
        try rig.log.truncate(after: LogIndex(6))
        var more: [Entry] = []
        for _ in 0..<20 { more += try rig.append(2, term: 2, bytes: 400) }
        try rig.kill()
        #expect(try rig.all().headers == (kept + more).headers)
        try rig.powerCut()
        #expect(try rig.all().headers == (kept + more).headers)
        #expect(rig.recovery.holes.isEmpty)
    }

    /// Trap 26: a log that is cut is never without what stays.
    @Test(arguments: [false, true])
    func crashBetweenAnyTwoStepsOfARewindAcrossASegmentBoundary(_ losesPower: Bool) throws {
        var steps = 0
        var isDone = false
        while !isDone {
            for seed in 1...(losesPower ? 6 : 1) as ClosedRange<UInt64> {
                let rig = try LogRig(seed: seed * 31)
                let stored = try rig.append(4, bytes: 900) + rig.append(12, bytes: 900)
                #expect(try rig.segmentFirsts().count >= 3)
                rig.fileSystem.stop(after: steps)
                do {
                    try rig.log.truncate(after: LogIndex(3))
                    isDone = true
                } catch {}
                if losesPower { try rig.powerCut() } else { try rig.kill() }
                let count = Int(rig.log.last.index.rawValue)
                #expect(count >= 3)
                #expect(rig.recovery.holes.isEmpty)
                #expect(try rig.all().headers == stored.prefix(count).map(\.header))
                if isDone { #expect(count == 3) }
                // Whichever way it went, the log works and stays.
                let more = try rig.append(7, term: 2, bytes: 900)
                try rig.powerCut()
                #expect(
                    try rig.all().headers == stored.prefix(count).map(\.header) + more.headers)
            }
            steps += 1
        }
        #expect(steps > 5)
    }

    @Test func crashBetweenAnyTwoStepsOfAnOpenThatFinishesARewind() throws {
        var steps = 0
        var isDone = false
        while !isDone {
            let rig = try LogRig(seed: UInt64(steps) + 5)
            let stored = try rig.append(16, bytes: 900)
            rig.fileSystem.stop(after: 3)  // copies 0 and 1 and their sync
            #expect(throws: EngineError.self) { try rig.log.truncate(after: LogIndex(3)) }
            rig.fileSystem.powerCut()
            rig.fileSystem.stop(after: steps)
            do {
                try rig.open()
                isDone = true
            } catch {}
            try rig.powerCut()
            #expect(rig.recovery.holes.isEmpty)
            #expect(try rig.all().headers == stored.prefix(3).map(\.header))
            let more = try rig.append(7, term: 2, bytes: 900)
            try rig.powerCut()
            #expect(try rig.all().headers == stored.prefix(3).map(\.header) + more.headers)
            steps += 1
        }
        #expect(steps > 5)
    }

    /// The frame of the torn append is all that tells that the two before it, which rot, were
    /// durable. An open that ends early leaves no less than it found.
    @Test func crashBetweenAnyTwoStepsOfAnOpenThatCutsTheProofOfAHole() throws {
        var steps = 0
        var isDone = false
        while !isDone {
            let rig = try LogRig(seed: UInt64(steps) + 50, segmentBytes: 1 << 20)
            try rig.append(4)
            let lost = try rig.append(2)
            let torn = try rig.append(1, bytes: 3000)
            for entry in lost { try rig.rotFrame(entry, in: 1) }
            let end = try rig.frameOffset(torn[0], in: rig.path(1))
            rig.fileSystem.tear(rig.path(1), UInt64(end + 1024)..<UInt64(end + 2048))
            for slot in 0..<HardStateFormat.pageSlots {
                let noPage = [UInt8](repeating: 0, count: HardStateFormat.sectorBytes)
                try rig.poke(LogRig.statePath, at: Int(HardStateFormat.pageOffset(slot)), noPage)
            }
            rig.fileSystem.stop(after: steps)
            do {
                try rig.open()
                isDone = true
            } catch {}
            try rig.powerCut()
            #expect(rig.recovery.holes.map(\.lower) == [LogIndex(5)], "after \(steps) steps")
            #expect(rig.recovery.holes.map(\.upper) == [LogIndex(6)], "after \(steps) steps")
            #expect(rig.log.last.index == LogIndex(6))
            steps += 1
        }
        #expect(steps > 5)
    }

    @Test func appendsAfterAPowerCutOfTheRewindsNeighbours() throws {
        // The first segment outgrows the name of the one that was unlinked; that name must not
        // return.
        for seed in 1...8 as ClosedRange<UInt64> {
            let rig = try LogRig(seed: seed)
            let kept = try rig.append(3, bytes: 900)
            try rig.append(6, bytes: 900)
            try rig.log.truncate(after: LogIndex(3))
            let small = try rig.append(6, term: 2, bytes: 50)
            try rig.log.truncate(after: LogIndex(8))
            let more = try rig.append(1, term: 3, bytes: 50)
            try rig.powerCut()
            #expect(
                try rig.all().headers
                    == kept.headers + small.prefix(5).map(\.header) + more.headers)
        }
    }
}
