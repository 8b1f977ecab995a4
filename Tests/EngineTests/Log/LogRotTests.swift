// Random rot under a random log: whatever is damaged, nothing wrong is ever served, every promised
// entry is there or a hole, and a peer's copies make the log whole again.
import Engine
import Testing

@Suite struct LogRotTests {
    @Test func rotIsMendedFromAPeer() throws {
        for seed in 1...60 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            let rig = try LogRig(seed: seed, segmentBytes: random.oneIn(2) ? 4096 : 1 << 20)
            var stored = try grow(rig, &random, term: 1)
            if random.oneIn(2) {
                let cut = 1 + random.below(stored.count)
                try rig.log.truncate(after: LogIndex(UInt64(cut)))
                stored.removeLast(stored.count - cut)
                stored += try grow(rig, &random, term: 2)
            }
            for _ in 0..<3 {
                try damage(rig, &random)
                try rig.kill()
                #expect(rig.log.last == stored.last?.position, "seed \(seed)")
                if random.oneIn(2) { stored += try grow(rig, &random, term: 3) }
                try mendAll(rig, stored, "seed \(seed)")
                #expect(try rig.all().headers == stored.headers, "seed \(seed)")
                let copy = try LogRig(afterPowerCutOf: rig)
                #expect(copy.recovery.holes.isEmpty, "seed \(seed)")
                #expect(try copy.all().headers == stored.headers, "seed \(seed)")
            }
        }
    }

    /// Damage comes in pages: entries next to each other are lost together, and only the one behind
    /// them names the last of them.
    @Test func neighboursThatRotTogetherAreOneHole() throws {
        let rig = try LogRig(seed: 5, segmentBytes: 4096)
        var stored: [Entry] = []
        for salt in 0..<80 { stored += try rig.append(1, term: 1, bytes: 300, salt: UInt8(salt)) }
        let firsts = try rig.segmentFirsts()
        try #require(firsts.count > 3)
        // The last entries of a segment and the first of the next one.
        let border = Int(firsts[2])
        for index in (border - 2)...(border + 1) {
            try rig.rotEntry(stored[index - 1], in: index < border ? firsts[1] : firsts[2])
        }
        #expect(throws: EngineError.self) {
            _ = try rig.log.entries(from: LogIndex(UInt64(border - 2)), maxBytes: 1)
        }
        let hole = try #require(rig.log.holes.first)
        #expect(rig.log.holes.count == 1)
        #expect(hole.lower == LogIndex(UInt64(border - 2)))
        #expect(hole.upper == LogIndex(UInt64(border + 1)))
        #expect(hole.checksum == stored[border].header.checksum)
        try mendAll(rig, stored, "neighbours")
        #expect(try rig.all().headers == stored.headers)
    }

    @Test func aSegmentWithoutSpaceIsWrittenAnewLater() throws {
        let rig = try LogRig(seed: 6, segmentBytes: 4096)
        let stored = try rig.append(40, bytes: 300)
        try rig.rotEntry(stored[1], in: 1)
        #expect(throws: EngineError.self) {
            _ = try rig.log.entries(from: stored[1].index, maxBytes: 1)
        }
        let files = rig.fileSystem
        files.capacity = UInt64.max - (try files.freeBytes("d"))
        do {
            try rig.log.mend(stored[1])
            Issue.record("there was space")
        } catch { #expect(error.isShortage) }
        #expect(
            try rig.log.entries(from: stored[1].index, maxBytes: 1).headers == [stored[1].header])
        files.capacity = .max
        try rig.log.mend(stored[1])
        let copy = try LogRig(afterPowerCutOf: rig)
        #expect(copy.recovery.holes.isEmpty)
        #expect(try copy.all().headers == stored.headers)
        #expect(throws: EngineError.self) { try rig.log.mend(stored[1]) }
    }

    private func grow(_ rig: LogRig, _ random: inout SeededRandom, term: UInt64) throws -> [Entry] {
        var result: [Entry] = []
        for _ in 0..<(1 + random.below(8)) {
            result += try rig.append(
                1 + random.below(4), term: max(term, rig.log.last.term.rawValue),
                bytes: random.below(1500), salt: UInt8(random.below(256)))
        }
        return result
    }

    /// Flips bytes, zeroes ranges, removes files.
    private func damage(_ rig: LogRig, _ random: inout SeededRandom) throws {
        for _ in 0..<(1 + random.below(4)) {
            let firsts = try rig.segmentFirsts()
            guard !firsts.isEmpty else { return }
            let path = rig.path(firsts[random.below(firsts.count)])
            let size = UInt64(try rig.raw(path).count)
            let start = random.next() % max(size, 1)
            switch random.below(8) {
            case 0: try rig.fileSystem.unlink(path)
            case 1...3: rig.fileSystem.tear(path, start..<min(size, start + 1500))
            default: rig.fileSystem.flip(path, start, mask: UInt8(1 + random.below(255)))
            }
        }
    }

    /// Asks for what the log says it lacks, as the fetch from a peer does.
    private func mendAll(_ rig: LogRig, _ peer: [Entry], _ place: String) throws {
        for _ in 0..<10_000 {
            guard let hole = rig.log.holes.first else {
                // Damage that only reading finds.
                _ = try rig.all()
                if rig.log.holes.isEmpty { return }
                continue
            }
            let wanted = hole.checksum == nil ? hole.lower : hole.upper
            let entry = peer[Int(wanted.rawValue) - 1]
            if let checksum = hole.checksum { #expect(entry.header.checksum == checksum) }
            try rig.log.mend(entry)
        }
        Issue.record("\(place): the holes never close: \(rig.log.holes)")
    }
}
