// A log that has lost how long an entry is cannot tell where its segment ends. Where S is, all know:
// there it ends, whether or not anybody still has what is lost.
import Engine
import Testing

@Suite struct LogSplitTests {
    /// The active segment lost the length of its third entry, and the log went on: what are several
    /// segments to a peer is one file here.
    fileprivate struct Scene {
        let rig: LogRig
        let stored: [Entry]
        /// Where the peer's segments begin.
        let firsts: [UInt64]
        /// The end of the peer's first segment.
        var end: Position { stored[Int(firsts[1]) - 2].position }
        /// What must stay readable whatever happens.
        var wanted: [EntryHeader] { stored[Int(end.index.rawValue)...].map(\.header) }

        init(seed: UInt64 = 1, keys: KeyRing = .plain) throws {
            let peer = try LogRig(seed: seed)
            var all: [Entry] = []
            for salt in 0..<60 { all += try peer.append(1, bytes: 300, salt: UInt8(salt)) }
            stored = all
            firsts = try peer.segmentFirsts()
            rig = try LogRig(seed: seed, keys: keys)
            for place in 0..<8 { try rig.log.append([stored[place]], sync: true) }
            let size = try rig.raw(rig.path(1)).count
            if keys.currentEpoch == 0 {
                try rig.rotFrame(stored[2], in: 1)
            } else {
                let start = 4608 + 2 * 512
                try #require(size > start + 512)
                rig.fileSystem.tear(rig.path(1), UInt64(start)..<UInt64(start + 512))
            }
            try rig.kill()
            try #require(rig.recovery.holes.first?.lower == LogIndex(3))
            try rig.log.append(Array(stored[8...]), sync: true)
            try #require(try rig.segmentFirsts() == [1])
        }
    }

    @Test func theSegmentEndsAtSAndTheRestIsCutByTheRule() throws {
        let scene = try Scene()
        let log = scene.rig.log
        try log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == scene.firsts)
        #expect(log.last == scene.stored.last?.position)
        #expect(try scene.behind(log) == scene.wanted)
        // History is served up to its hole and from there on.
        #expect(try log.entries(from: LogIndex(1), maxBytes: 1 << 20).indexes == [1, 2])
        #expect(try log.entries(from: LogIndex(4), maxBytes: 1).indexes == [4])

        try log.trim(through: scene.end.index)
        #expect(log.first == scene.end.index + 1)
        #expect(log.holes.isEmpty)
        #expect(try scene.rig.segmentFirsts() == Array(scene.firsts[1...]))
        try scene.goesOn()
    }

    @Test func anEncryptedOneGetsKeysOfItsOwn() throws {
        let watch = SealWatch()
        let keys = KeyRing(try testKeys(1), random: seededNumbers(5), observer: watch.observer)
        let scene = try Scene(keys: keys)
        try scene.rig.log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == scene.firsts)
        #expect(watch.repeated.isEmpty)
        try scene.goesOn()
    }

    /// Any later S does, and what is behind the last entry is a new segment.
    @Test func theLastEntryMayBeTheEnd() throws {
        let scene = try Scene()
        let last = scene.firsts[scene.firsts.count - 1]
        let log = scene.rig.log
        try log.truncate(after: LogIndex(last - 1))
        try log.split(after: scene.stored[Int(last) - 2].position)
        try log.append(Array(scene.stored[Int(last - 1)...]), sync: true)
        #expect(try scene.rig.segmentFirsts() == [1, last])
    }

    @Test func aLogThatKnowsItsEndsIsLeftAlone() throws {
        let rig = try LogRig()
        let stored = try rig.append(40, bytes: 300)
        let firsts = try rig.segmentFirsts()
        for entry in stored { try rig.log.split(after: entry.position) }
        #expect(try rig.segmentFirsts() == firsts)
    }

    /// What is missing behind S is still to be fetched: the file stays one until it is here.
    @Test func aHoleBehindSComesFirst() throws {
        let scene = try Scene()
        let place = Int(scene.end.index.rawValue) + 3
        try scene.rig.rotEntry(scene.stored[place], in: 1)
        try scene.rig.kill()
        let log = scene.rig.log
        try log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == [1])
        try log.mend(scene.stored[place])
        try log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == scene.firsts)
        #expect(try scene.behind(log) == scene.wanted)
    }

    @Test func rotFoundWhileSplittingIsAHole() throws {
        let scene = try Scene()
        let place = Int(scene.end.index.rawValue) + 3
        try scene.rig.rotEntry(scene.stored[place], in: 1)
        let log = scene.rig.log
        try log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == [1])
        #expect(log.holes.map(\.lower) == [LogIndex(3), LogIndex(UInt64(place + 1))])
        #expect(log.holes.last?.checksum == scene.stored[place].header.checksum)
    }

    @Test func anotherHistoryIsRefused() throws {
        let scene = try Scene()
        let other = Position(
            term: scene.end.term, index: scene.end.index, checksum: scene.stored[0].header.checksum)
        #expect(throws: EngineError.self) { try scene.rig.log.split(after: other) }
        #expect(try scene.rig.segmentFirsts() == [1])
    }

    @Test func withoutSpaceItWaits() throws {
        let scene = try Scene()
        let files = scene.rig.fileSystem
        files.capacity -= try files.freeBytes(LogRig.directory) - 1024
        try scene.rig.log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == [1])
        #expect(try files.list(LogRig.directory).allSatisfy { !$0.hasSuffix(".new") })
        files.capacity = .max
        try scene.rig.log.split(after: scene.end)
        #expect(try scene.rig.segmentFirsts() == scene.firsts)
    }

    /// Stopped at any step, by a kill or with the power: all that is behind S stays.
    @Test(arguments: [false, true]) func aCrashAtAnyStepIsHarmless(_ power: Bool) throws {
        var completed = false
        var step = 0
        while !completed {
            let scene = try Scene(seed: UInt64(step + 1))
            scene.rig.base.position = scene.end
            scene.rig.fileSystem.stop(after: step)
            do {
                try scene.rig.log.split(after: scene.end)
                completed = true
            } catch {}
            if power { try scene.rig.powerCut() } else { try scene.rig.kill() }
            #expect(scene.rig.log.last == scene.stored.last?.position, "step \(step)")
            #expect(
                try scene.behind(scene.rig.log) == scene.wanted,
                "step \(step)")
            try scene.rig.log.split(after: scene.end)
            try scene.goesOn()
            step += 1
        }
        #expect(step > 5)
    }
}

extension LogSplitTests.Scene {
    fileprivate func behind(_ log: Log) throws -> [EntryHeader] {
        var result: [Entry] = []
        var next = end.index + 1
        while next <= log.last.index {
            let part = try log.entries(from: next, maxBytes: 1 << 20)
            result += part
            next = try #require(part.last).index + 1
        }
        return result.headers
    }

    /// Appends end segments as on the peer again, and a new open finds everything.
    fileprivate func goesOn() throws {
        let added = try rig.append(30, bytes: 300)
        let before = try rig.segmentFirsts()
        rig.base.position = end
        try rig.powerCut()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try behind(rig.log) == wanted + added.headers)
        #expect(try rig.segmentFirsts().suffix(3) == before.suffix(3))
        #expect(before[before.count - 1] > firsts[firsts.count - 1])
    }
}
