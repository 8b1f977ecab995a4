// Torn or rotten, stale or live: the cases that were found on paper, one test each.
import Engine
import Testing

@Suite struct LogRecoveryTests {
    /// History is looked up by what its footer says, and that is only a checksum's word.
    @Test(arguments: [0, 1_024, 1 << 40, 1 << 63, .max] as [UInt64])
    func aFooterWithAnotherEndIsNotBelieved(end: UInt64) throws {
        let rig = try LogRig()
        let stored = try rig.append(60, bytes: 300)
        let firsts = try rig.segmentFirsts()
        rig.base.position = stored[Int(firsts[2]) - 2].position
        let file = try rig.fileSystem.open(rig.path(firsts[0]), .write)
        let trailer = try #require(SegmentFooter.readTrailer(file))
        let offsets = try #require(SegmentFooter.readOffsets(file))
        var summary = try #require(SegmentFooter.readSummary(file))
        try #require(summary.end > 1_024)
        summary.end = end
        try file.writeAll(
            SegmentFooter.encoded(offsets, summary, at: trailer.tableOffset),
            at: trailer.tableOffset)
        try rig.open()
        let last = stored[Int(firsts[1]) - 2]
        let read = try rig.log.entries(from: last.index, maxBytes: 1)
        #expect(read.headers == [last.header])
        #expect(try rig.all().headers == stored.headers)
    }

    @Test func aTornTailIsCutAndNothingSyncedWithIt() throws {
        let rig = try LogRig()
        let synced = try rig.append(5)
        let unsynced = try rig.append(3, sync: false)
        try rig.rotEntry(unsynced[1], in: 1)
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(rig.recovery.tornBytes > 0)
        #expect(try rig.all().headers == (synced + unsynced.prefix(1)).headers)
    }

    @Test(arguments: [true, false])
    func rotAtOrBelowWhatWasSyncedIsAHole(_ losesLength: Bool) throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(9)
        try rig.append(1)
        if losesLength {
            try rig.rotFrame(stored[3], in: 1)
        } else {
            try rig.rotEntry(stored[3], in: 1)
        }
        try rig.kill()
        let hole = try #require(rig.recovery.holes.first)
        // A lost length takes the rest of its group along.
        let upper: UInt64 = losesLength ? 9 : 4
        #expect(hole.lower == LogIndex(4) && hole.upper == LogIndex(upper))
        #expect(hole.checksum == stored[Int(upper) - 1].header.checksum)
        #expect(rig.log.last.index == LogIndex(10))
        #expect(try rig.all().indexes == [1, 2, 3])
        #expect(throws: EngineError.self) {
            try rig.log.entries(from: LogIndex(4), maxBytes: 10)
        }
        #expect(rig.log.position(at: LogIndex(4)) == nil)
    }

    @Test func theLastSyncedGroupIsPromisedByTheVolatilePage() throws {
        let rig = try LogRig()
        let stored = try rig.append(3)
        for entry in stored { try rig.rotEntry(entry, in: 1) }
        try rig.kill()
        #expect(
            rig.recovery.holes == [
                LogHole(
                    lower: LogIndex(1), upper: LogIndex(3), checksum: stored[2].header.checksum)
            ])
        // It votes with the position it promised.
        #expect(rig.log.last == stored[2].position)
        for entry in stored.reversed() { try rig.log.mend(entry) }
        #expect(try rig.all().headers == stored.headers)
    }

    /// What is flushed is history, and another member may still need it. Its last entries are lost,
    /// and with them what stands behind S, or nothing does.
    @Test(arguments: [0, 2])
    func rotAtTheEndOfWhatIsFlushed(behind: Int) throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(8)
        let flushed = stored[7 - behind]
        rig.base.position = flushed.position
        for entry in stored[(6 - behind)...] { try rig.rotEntry(entry, in: 1) }
        try rig.kill()
        #expect(rig.log.first == LogIndex(1) && rig.log.last == stored[7].position)
        let upper = LogIndex(UInt64(8 - behind))
        let lost = LogHole(
            lower: upper - 1, upper: upper, checksum: flushed.header.checksum)
        #expect(rig.log.holes.first == lost)
        // Only what lies behind S is missed by this node itself.
        #expect(
            rig.recovery.holes
                == (behind == 0
                    ? []
                    : [
                        LogHole(
                            lower: upper + 1, upper: LogIndex(8),
                            checksum: stored[7].header.checksum)
                    ]))
        // The manifest names the entry, so what follows it can be checked without it.
        #expect(rig.log.position(at: flushed.index) == flushed.position)
        for entry in stored[(6 - behind)...].reversed() { try rig.log.mend(entry) }
        #expect(rig.log.holes.isEmpty)
        try rig.append(3)
        #expect(try rig.all().headers.prefix(8) == stored.headers[...])
        try rig.kill()
        #expect(try rig.all().indexes == Array(1...11))
    }

    /// The footer of the segment that a file was before says nothing of the one that it is now.
    @Test func rotAtTheEndOfWhatIsFlushedInAFileUsedAgain() throws {
        let rig = try LogRig()
        try rig.append(40, bytes: 500)
        let kept = try rig.segmentFirsts()[2]
        rig.base.position = try #require(rig.log.position(at: LogIndex(kept - 1)))
        try rig.log.trim(through: LogIndex(kept - 1))
        while rig.fileSystem.exists(LogRig.directory + "/spare") {
            try rig.append(1, bytes: 500)
        }
        let stored = try rig.append(3, bytes: 500)
        let active = try #require(try rig.segmentFirsts().last)
        #expect(stored[0].index.rawValue >= active)
        let flushed = stored[2]
        rig.base.position = flushed.position
        for entry in stored[1...] { try rig.rotEntry(entry, in: active) }
        try rig.kill()
        #expect(rig.log.first == LogIndex(kept) && rig.log.last == flushed.position)
        #expect(rig.log.holes.map(\.upper) == [flushed.index])
    }

    @Test func anEntrysCommitCountsAsPromised() throws {
        let rig = try LogRig()
        let stored = try rig.append(4, sync: false, commit: 3)
        try rig.rotEntry(stored[1], in: 1)
        try rig.kill()
        #expect(rig.recovery.holes.map(\.lower) == [LogIndex(2)])
        #expect(rig.log.last == stored[3].position)
    }

    @Test func writeBackOrderInverted() throws {
        let rig = try LogRig()
        let synced = try rig.append(2)
        let early = try rig.append(1, sync: false)
        _ = try rig.append(1, sync: false)
        // The later entry reached the medium, the earlier one did not.
        let offset = UInt64(try rig.frameOffset(early[0], in: rig.path(1)))
        rig.fileSystem.tear(rig.path(1), offset..<(offset + 232))
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == synced.headers)
    }

    @Test func unsyncedSingleNodeLaterPageOnDiskEarlierNot() throws {
        let rig = try LogRig(sync: .never, segmentBytes: 1 << 20)
        let stored = try rig.append(60, bytes: 400, sync: false)
        let offset = UInt64(try rig.frameOffset(stored[20], in: rig.path(1)))
        rig.fileSystem.tear(rig.path(1), offset..<(offset + 4096))
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == stored.prefix(20).map(\.header))
        let more = try rig.append(3, term: 2, sync: false)
        try rig.kill()
        #expect(try rig.all().headers == stored.prefix(20).map(\.header) + more.headers)
    }

    /// Who does not sync every write still does now and then, at the latest when it closes.
    @Test func unsyncedWhatASyncCoveredIsPromised() throws {
        let rig = try LogRig(sync: .never, segmentBytes: 1 << 20)
        let stored = try rig.append(30, sync: false)
        _ = try rig.log.sync()
        let torn = try rig.append(5, sync: false)
        try rig.rotEntry(stored[20], in: 1)
        try rig.rotEntry(torn[1], in: 1)
        try rig.kill()
        #expect(rig.recovery.holes.map(\.lower) == [stored[20].header.index])
        #expect(rig.recovery.holes.map(\.upper) == [stored[20].header.index])
        #expect(rig.log.last == torn[0].position)
    }

    @Test func tornTailCutRewrittenFirstNewFrameRots() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let synced = try rig.append(3)
        let torn = try rig.append(4, sync: false)
        let image = try rig.raw(rig.path(1))
        try rig.rotEntry(torn[0], in: 1)
        try rig.kill()
        #expect(rig.log.last == synced[2].position)
        let fresh = try rig.append(1, term: 2)
        // The old frames stand behind the new one again, as if the cut had not reached the medium.
        let behind = try rig.frameOffset(fresh[0], in: rig.path(1)) + 512
        try rig.poke(rig.path(1), at: behind, Array(image[behind...]))
        try rig.rotFrame(fresh[0], in: 1)
        try rig.kill()
        #expect(
            rig.recovery.holes == [
                LogHole(
                    lower: LogIndex(4), upper: LogIndex(4), checksum: fresh[0].header.checksum)
            ])
        #expect(rig.log.last == fresh[0].position)
        try rig.log.mend(fresh[0])
        #expect(try rig.all().headers == (synced + fresh).headers)
    }

    /// What a member that catches up appends was committed by others: it claims to be durable there.
    @Test(arguments: [0, 7] as [UInt64])
    func failedSyncProcessRestartedPageCacheClean(commit: UInt64) throws {
        let rig = try LogRig()
        let synced = try rig.append(2)
        rig.fileSystem.failNextSync(rig.path(1))
        #expect(throws: EngineError.self) { try rig.append(6, commit: commit) }
        try rig.kill()
        // The page cache still shows them: from now on they count, so they must be on the medium.
        let shown = try rig.all()
        #expect(shown.count == 8)
        try rig.powerCut()
        #expect(try rig.all().headers == shown.headers)
        #expect(shown.prefix(2).map(\.header) == synced.headers)
        #expect(rig.recovery.holes.isEmpty)
    }

    /// The record of a cut is lost, and a page from before it tells of entries that are no more.
    @Test func aPageFromBeforeACutThatNobodyRemembers() throws {
        let rig = try LogRig()
        let kept = Array(try rig.append(20, term: 5).prefix(7))
        let state = try rig.raw(LogRig.statePath)
        try rig.log.truncate(after: LogIndex(7))
        let fresh = try rig.append(2, term: 6)
        try rig.poke(LogRig.statePath, at: 0, state)
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == (kept + fresh).headers)
        let more = try rig.append(2, term: 6)
        try rig.powerCut()
        #expect(try rig.all().headers == (kept + fresh + more).headers)
    }

    @Test func aFailedSyncOfTheDirectoryTakesNoSegmentAlong() throws {
        let rig = try LogRig()
        try rig.append(5, bytes: 1000)
        rig.fileSystem.failNextSync(LogRig.directory)
        #expect(throws: EngineError.self) { try rig.append(1) }
        try rig.kill()
        let shown = try rig.all()
        try rig.append(1)
        try rig.powerCut()
        #expect(try rig.all().prefix(shown.count).map(\.header) == shown.headers)
        #expect(rig.log.last.index == LogIndex(UInt64(shown.count + 1)))
    }

    @Test(arguments: [1, 9] as [UInt64])
    func staleEntriesInARecycledFile(_ staleTerm: UInt64) throws {
        // A file of another life of this log, with entries of the same indexes.
        let other = try LogRig(segmentBytes: 1 << 20)
        try other.append(30, term: staleTerm, bytes: 300)
        let image = try other.raw(other.path(1))

        let rig = try LogRig()
        let stored = try rig.append(5, term: 3, bytes: 1000)
        try rig.poke(LogRig.directory + "/spare", at: 0, image)
        try rig.kill()
        let more = try rig.append(2, term: 3, bytes: 200)
        #expect(!rig.fileSystem.exists(LogRig.directory + "/spare"))
        try rig.kill()
        #expect(try rig.all().headers == (stored + more).headers)
        // Not even when the header and the first new frame are lost.
        let first = try rig.segmentFirsts().last!
        rig.fileSystem.flip(rig.path(first), 40)
        try rig.rotFrame(more[0], in: first)
        try rig.kill()
        #expect(rig.log.last == more[1].position)
        #expect(rig.recovery.holes.allSatisfy { $0.upper <= more[1].index })
        #expect(try rig.all().headers == stored.headers)
        for entry in more.reversed() where !(try rig.all().headers.contains(entry.header)) {
            if rig.log.holes.contains(where: { $0.upper == entry.index }) {
                try rig.log.mend(entry)
            }
        }
        #expect(try rig.all().headers == (stored + more).headers)
    }

    @Test func aRecycledFilesOwnStaleEntriesOfThisLog() throws {
        let rig = try LogRig()
        let stored = try rig.append(12, term: 1, bytes: 1000)
        let firsts = try rig.segmentFirsts()
        rig.base.position = stored[Int(firsts[1]) - 2].position
        try rig.log.trim(through: rig.base.position.index)
        try rig.append(3, term: 2, bytes: 1000)
        let last = try rig.append(1, term: 2, bytes: 900)
        for _ in 0..<3 { try rig.kill() }
        #expect(rig.log.last == last[0].position)
        #expect(rig.recovery.holes.isEmpty)
    }

    @Test func aLostSegmentFileIsAHole() throws {
        let rig = try LogRig()
        let stored = try rig.append(16, bytes: 1000)
        let firsts = try rig.segmentFirsts()
        #expect(firsts == [1, 6, 11, 16])
        for first in [6, 11] as [UInt64] {
            try rig.fileSystem.unlink(rig.path(first))
        }
        try rig.fileSystem.syncDirectory(LogRig.directory)
        try rig.kill()
        #expect(
            rig.recovery.holes == [
                LogHole(
                    lower: LogIndex(6), upper: LogIndex(15), checksum: stored[14].header.checksum)
            ])
        for entry in stored[5..<15].reversed() { try rig.log.mend(entry) }
        #expect(try rig.all().headers == stored.headers)
        #expect(try rig.segmentFirsts() == firsts)
        try rig.powerCut()
        #expect(try rig.all().headers == stored.headers)
        #expect(rig.recovery.holes.isEmpty)
    }

    /// Its own frames may be gone by then: an unsynced log has them in tables only.
    @Test(arguments: [false, true], [LogSyncPolicy.always, .never])
    func aFlushedSegmentWithoutSomeFramesIsNotAppendedTo(
        nextIsUnreadable: Bool, sync: LogSyncPolicy
    ) throws {
        let rig = try LogRig(sync: sync)
        let stored = try rig.append(10, bytes: 1000)
        #expect(try rig.segmentFirsts() == [1, 6])
        rig.base.position = stored[9].position
        let frame = try rig.frameOffset(stored[7], in: rig.path(6))
        try rig.poke(rig.path(6), at: frame, [UInt8](repeating: 0, count: 200))
        if nextIsUnreadable {
            let file = try rig.fileSystem.open(rig.path(11), .create)
            try file.writeAll([UInt8](repeating: 7, count: 600), at: 0)
        }
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty && rig.log.last == stored[9].position)
        for round in 1...2 as ClosedRange<UInt64> {
            let added = try rig.append(7, bytes: 1000)
            #expect(try rig.segmentFirsts().contains(11))
            _ = try rig.log.sync()
            try rig.powerCut()
            #expect(rig.recovery.holes.isEmpty)
            #expect(rig.log.last == added[6].position)
            let read = try rig.log.entries(from: LogIndex(11), maxBytes: 1 << 20)
            #expect(read.count == Int(7 * round) && read.last?.header == added[6].header)
        }
    }

    @Test func aLostFirstSegmentIsAHoleToo() throws {
        let rig = try LogRig()
        let stored = try rig.append(8, bytes: 1000)
        try rig.fileSystem.unlink(rig.path(1))
        try rig.kill()
        #expect(rig.recovery.holes.map(\.upper) == [LogIndex(5)])
        for entry in stored[..<5].reversed() { try rig.log.mend(entry) }
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == stored.headers)
    }

    @Test func theWholeLogLostKeepsItsPromise() throws {
        let rig = try LogRig()
        let stored = try rig.append(8, bytes: 1000)
        for first in try rig.segmentFirsts() { try rig.fileSystem.unlink(rig.path(first)) }
        try rig.kill()
        #expect(rig.log.last == stored[7].position)
        #expect(rig.log.holes.map(\.lower) == [LogIndex(1)])
        // The tail may go on before the hole is mended.
        let more = try rig.append(1, bytes: 10)
        for entry in stored.reversed() { try rig.log.mend(entry) }
        #expect(try rig.all().headers == (stored + more).headers)
        #expect(try rig.segmentFirsts() == [1, 6])
        try rig.powerCut()
        #expect(try rig.all().headers == (stored + more).headers)
    }

    /// Trap 16: headers of frames are covered, too.
    @Test func everyByteFlippedIsDetectedOrHarmless() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(3, bytes: 30) + rig.append(2, bytes: 30)
        let size = try rig.raw(rig.path(1)).count
        for offset in 0..<min(size, 1700) {
            let copy = try LogRig(afterPowerCutOf: rig)
            copy.fileSystem.flip(copy.path(1), UInt64(offset), mask: 0x41)
            try copy.kill()
            #expect(copy.log.last == stored[4].position)
            var seen = try copy.all()
            for hole in copy.log.holes {
                var index = hole.upper
                while index >= hole.lower {
                    try copy.log.mend(stored[Int(index.rawValue) - 1])
                    index = index - 1
                }
            }
            seen = try copy.all()
            #expect(seen.headers == stored.headers, "byte \(offset)")
        }
    }

    @Test func rotBetweenOpensIsFoundByReading() throws {
        let rig = try LogRig(segmentBytes: 1 << 20)
        let stored = try rig.append(6)
        try rig.rotEntry(stored[2], in: 1)
        #expect {
            try rig.log.entries(from: LogIndex(3), maxBytes: 1000)
        } throws: { error in
            guard case .logHole(let index) = error as? EngineError else { return false }
            return index == LogIndex(3)
        }
        #expect(
            rig.log.holes == [
                LogHole(
                    lower: LogIndex(3), upper: LogIndex(3), checksum: stored[2].header.checksum)
            ])
        let impostor = LogRig.entry(after: stored[1].position, salt: 1)
        #expect(throws: EngineError.self) { try rig.log.mend(impostor) }
        try rig.log.mend(stored[2])
        #expect(rig.log.holes.isEmpty)
        let more = try rig.append(1)
        #expect(try rig.all().headers == (stored + more).headers)
    }

    @Test func aFlippedPageCacheIsNoHole() throws {
        let rig = try LogRig()
        let stored = try rig.append(3)
        let offset = try rig.frameOffset(stored[1], in: rig.path(1))
        rig.fileSystem.flip(rig.path(1), UInt64(offset + 140), onMedium: false)
        #expect(try rig.all().headers == stored.headers)
        #expect(rig.log.holes.isEmpty)
    }
}
