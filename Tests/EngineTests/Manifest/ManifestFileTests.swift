// The manifest on a disk that loses, tears and rots: what was acknowledged is there, or a typed
// error says that it is not; never an older state, never a wrong one.
import Engine
import Testing

private let identity = ManifestIdentity(
    genesis: Digest128(low: 7, high: 9), group: 0, node: MemberID(1))
private let directory = "/g"

/// A manifest that seals one small segment with each step.
private struct Script {
    var states: [ManifestState] = [Sample.emptyState]

    init(steps: Int) throws {
        for step in 0..<steps {
            var next = states[step]
            try next.apply(Sample.sealing(step))
            states.append(next)
        }
    }
}

/// As docs/formats/manifest.md has it.
private enum ManifestRecordLayout {
    static let headerBytes = 56
}

private func newDisk(seed: UInt64 = 1) throws -> MemoryFileSystem {
    let disk = MemoryFileSystem(seed: seed)
    try disk.createDirectory(directory)
    try disk.syncDirectory("/")
    return disk
}

private func create(_ disk: MemoryFileSystem, rewriteBytes: UInt64 = 1 << 20) throws
    -> ManifestFile
{
    try ManifestFile.create(
        disk, directory: directory, identity: identity, state: Sample.emptyState,
        rewriteBytes: rewriteBytes)
}

private func recover(_ disk: MemoryFileSystem) throws -> ManifestFile.Recovery? {
    try ManifestFile.recover(disk, directory: directory, identity: identity)
}

/// The state recovered; nil if the damage is told by a typed error.
private func recoveredOrTold(_ disk: MemoryFileSystem) throws -> ManifestState? {
    do { return try recover(disk)?.file.state } catch let error as EngineError {
        guard case .corrupt = error else { throw error }
        return nil
    }
}

@Suite struct ManifestFileTests {
    @Test func whatIsAppendedIsRecovered() throws {
        let disk = try newDisk()
        #expect(try recover(disk) == nil)
        let script = try Script(steps: 5)
        var file = try create(disk)
        for step in 0..<5 {
            try file.append(Sample.sealing(step))
            #expect(file.state == script.states[step + 1])
            let found = try #require(try recover(disk))
            #expect(found.file.state == script.states[step + 1])
            #expect(found.notes.isEmpty)
            file = found.file
        }
        #expect(
            try disk.list(directory) == ["CURRENT", "MANIFEST-1", "MANIFEST-1.mirror"])
    }

    @Test func longLogsAreRewritten() throws {
        let disk = try newDisk()
        let script = try Script(steps: 60)
        let file = try create(disk, rewriteBytes: 2000)
        for step in 0..<60 { try file.append(Sample.sealing(step)) }
        #expect(file.number > 2)
        #expect(try recover(disk)?.file.state == script.states[60])
        #expect(try disk.list(directory).count == 3)
        let size = try disk.open(directory + "/MANIFEST-\(file.number)", .read).size()
        #expect(size < 4 * UInt64(script.states[60].encoded().count))
    }

    @Test func contradictionsAndForeignersAreRefused() throws {
        let disk = try newDisk()
        let file = try create(disk)
        try file.append(Sample.sealing(0))
        #expect(throws: EngineError.self) { try file.append(Sample.sealing(0)) }
        try file.append(Sample.sealing(1))
        let others = [
            ManifestIdentity(genesis: identity.genesis, group: 0, node: MemberID(2)),
            ManifestIdentity(genesis: .zero, group: 0, node: MemberID(1)),
        ]
        for other in others {
            do {
                _ = try ManifestFile.recover(disk, directory: directory, identity: other)
                Issue.record("another's manifest was taken")
            } catch { guard case .identity = error else { throw error } }
        }
        #expect(try recover(disk)?.file.state.frontier == LogIndex(26))
    }

    // MARK: - Power cuts

    @Test(arguments: [1 << 20, 600] as [UInt64])
    func powerCutsLoseNothingAcknowledged(rewriteBytes: UInt64) throws {
        let script = try Script(steps: 6)
        for seed: UInt64 in 1...40 {
            let disk = try newDisk(seed: seed)
            var file = try create(disk, rewriteBytes: rewriteBytes)
            for step in 0..<6 {
                try file.append(Sample.sealing(step))
                guard seed % 3 != 0 || step == 3 else { continue }
                disk.powerCut()
                let found = try #require(try recover(disk))
                #expect(found.file.state == script.states[step + 1])
                file = found.file
            }
        }
    }

    /// What a history that dies at its `diesAt`-th change leaves after a power cut: appends and a
    /// rewrite, on a disk that ignores the syncs in `skipped`.
    private struct Crash {
        var disk: MemoryFileSystem
        var acknowledged = -1
        var changes = 0

        init(seed: UInt64, diesAt: Int, skipped: Int? = nil) throws {
            disk = try newDisk(seed: seed)
            if let skipped { disk.skipSync = [disk.syncCount + skipped] }
            let mortal = InterruptedFileSystem(disk, diesAt: diesAt)
            do {
                let file = try ManifestFile.create(
                    mortal, directory: directory, identity: identity, state: Sample.emptyState)
                acknowledged = 0
                try file.append(Sample.sealing(0))
                acknowledged = 1
                try file.rewrite()
                try file.append(Sample.sealing(1))
                acknowledged = 2
            } catch { guard diesAt < .max else { throw error } }
            changes = mortal.changes
            disk.powerCut()
        }
    }

    /// Dies at every change in turn: what was acknowledged is there, the append under way is there
    /// whole or not at all.
    @Test func powerCutsAtEveryChange() throws {
        let script = try Script(steps: 2)
        let changes = try Crash(seed: 1, diesAt: .max).changes
        for change in 1...(changes + 1) {
            for seed: UInt64 in 1...10 {
                let crash = try Crash(seed: seed &* 31, diesAt: change)
                let state = try recover(crash.disk)?.file.state
                guard crash.acknowledged >= 0 || state != nil else { continue }
                let reached = try #require(script.states.firstIndex { $0 == state })
                #expect(
                    reached == max(0, crash.acknowledged) || reached == crash.acknowledged + 1,
                    "change \(change) seed \(seed)")
            }
        }
    }

    /// Leaving out any sync shows: after some crash an acknowledged append, or one of its two
    /// copies, is gone. But for one: a CURRENT that a rewrite left torn is found out and the pair
    /// that goes furthest is taken.
    @Test func everySyncIsNeeded() throws {
        let script = try Script(steps: 2)
        let whole = try Crash(seed: 1, diesAt: .max)
        let syncs = whole.disk.syncCount - 1
        #expect(syncs == 14)
        for skipped in 1...syncs where skipped != 11 {
            let isMissed = (1...16 as ClosedRange<UInt64>).contains { seed in
                (1...(whole.changes + 1)).contains { change in
                    (try? losesSomething(seed &* 77, change, skipped, script)) ?? true
                }
            }
            #expect(isMissed, "sync \(skipped) could be left out")
        }
    }

    private func losesSomething(
        _ seed: UInt64, _ change: Int, _ skipped: Int, _ script: Script
    ) throws -> Bool {
        let crash = try Crash(seed: seed, diesAt: change, skipped: skipped)
        guard crash.acknowledged >= 0 else {
            // Nothing was promised but that the next start succeeds.
            _ = try recover(crash.disk)
            return false
        }
        for lost in [".mirror", ""] {
            let disk = crash.disk.snapshotAfterPowerCut()
            for name in try disk.list(directory) where name.hasPrefix("MANIFEST") {
                guard name.hasSuffix(".mirror") == (lost == ".mirror") else { continue }
                try disk.unlink(directory + "/" + name)
            }
            guard let state = try recover(disk)?.file.state,
                let reached = script.states.firstIndex(of: state),
                reached >= crash.acknowledged
            else { return true }
        }
        return false
    }

    @Test func aFailedSyncEndsIt() throws {
        let disk = try newDisk()
        let file = try create(disk)
        try file.append(Sample.sealing(0))
        disk.failNextSync(directory + "/MANIFEST-1.mirror")
        for _ in 0..<2 {
            do {
                try file.append(Sample.sealing(1))
                Issue.record("acknowledged after a failed sync")
            } catch { guard case .poisoned = error else { throw error } }
        }
        disk.powerCut()
        let state = try #require(try recover(disk)).file.state
        let script = try Script(steps: 2)
        #expect([script.states[1], script.states[2]].contains(state))
    }

    /// After a failed sync only the page cache may hold the last record, and reads show it; so it
    /// is written again before it counts.
    @Test func openingMakesTheLastRecordDurable() throws {
        let script = try Script(steps: 2)
        for seed: UInt64 in 1...10 {
            let disk = try newDisk(seed: seed)
            let file = try create(disk)
            try file.append(Sample.sealing(0))
            disk.failNextSync(directory + "/MANIFEST-1")
            _ = try? file.append(Sample.sealing(1))
            let seen = try #require(try recover(disk)).file.state
            disk.powerCut()
            let after = try #require(try recover(disk)).file.state
            #expect(after == seen)
            #expect(seen == script.states[2])
        }
    }

    @Test func withoutSpaceNothingIsTornAndNothingEnds() throws {
        let script = try Script(steps: 3)
        let disk = try newDisk()
        let file = try create(disk)
        try file.append(Sample.sealing(0))
        var used: UInt64 = 0
        for name in try disk.list(directory) {
            used += try disk.open(directory + "/" + name, .read).size()
        }
        // Room for one copy of the record, not for two.
        for room: UInt64 in [0, 10, 400] {
            disk.capacity = used + room
            do {
                try file.append(Sample.sealing(1))
                Issue.record("appended without space")
            } catch {
                guard error.isNoSpace else { throw error }
            }
            #expect(try recover(disk.snapshotAfterPowerCut())?.file.state == script.states[1])
        }
        disk.capacity = .max
        try file.append(Sample.sealing(1))
        try file.append(Sample.sealing(2))
        #expect(try recover(disk)?.file.state == script.states[3])
    }

    /// One copy got the record, the other had no space: whatever of that reaches the medium, the
    /// caller went on without these edits.
    @Test func whatWasTakenBackForWantOfSpaceNeverComesBack() throws {
        let script = try Script(steps: 2)
        for seed: UInt64 in 1...12 {
            let disk = try newDisk(seed: seed)
            let file = try create(disk)
            try file.append(Sample.sealing(0))
            let before = disk.usedBytes
            let trial = disk.snapshotAfterPowerCut()
            try #require(try recover(trial)).file.append(Sample.sealing(1))
            let record = (trial.usedBytes - before) / 2
            disk.capacity = before + record + record / 2
            #expect(throws: EngineError.self) { try file.append(Sample.sealing(1)) }
            for _ in 0..<8 {
                let state = try recover(disk.snapshotAfterPowerCut())?.file.state
                #expect(state == script.states[1], "seed \(seed)")
            }
        }
    }

    @Test func withoutSpaceForARewriteTheOldPairGoesOn() throws {
        let script = try Script(steps: 12)
        let disk = try newDisk()
        let file = try create(disk, rewriteBytes: 900)
        var used: UInt64 = 0
        for step in 0..<12 {
            used = try disk.list(directory).reduce(0) {
                try $0 + disk.open(directory + "/" + $1, .read).size()
            }
            disk.capacity = used + 900
            try file.append(Sample.sealing(step))
        }
        #expect(file.state == script.states[12])
        #expect(try recover(disk.snapshotAfterPowerCut())?.file.state == script.states[12])
    }

    /// Appends and rewrites with so many descriptors and no more: a typed error that passes, and
    /// whatever reaches the medium is what was acknowledged.
    @Test(arguments: 0..<8)
    func withoutDescriptorsNothingEnds(budget: Int) throws {
        let script = try Script(steps: 8)
        let files = ScarceFileSystem(try newDisk())
        let file = try ManifestFile.create(
            files, directory: directory, identity: identity, state: Sample.emptyState,
            rewriteBytes: 600)
        files.left = budget
        var done = 0
        while done < 8 {
            do {
                try file.append(Sample.sealing(done))
                done += 1
            } catch {
                guard error.isShortage else { throw error }
                #expect(files.left == 0)
                files.left = budget + 1
            }
            for _ in 0..<4 {
                let state = try recover(files.base.snapshotAfterPowerCut())?.file.state
                #expect(state == script.states[done], "step \(done)")
            }
        }
        files.left = .max
        #expect(files.refusals > 0)
        try file.rewrite()
        #expect(file.state == script.states[8])
        #expect(try recover(files.base)?.file.state == script.states[8])
        #expect(try files.base.list(directory).count == 3)
    }

    // MARK: - Rot

    private func threeSteps() throws -> (MemoryFileSystem, Script) {
        let disk = try newDisk()
        let file = try create(disk)
        for step in 0..<3 { try file.append(Sample.sealing(step)) }
        return (disk, try Script(steps: 3))
    }

    /// One wrong byte anywhere: the other copy has it, and both are whole again afterwards.
    @Test func aFlippedByteIsMendedFromTheOtherCopy() throws {
        let (model, script) = try threeSteps()
        for name in ["CURRENT", "MANIFEST-1", "MANIFEST-1.mirror"] {
            let size = try model.open(directory + "/" + name, .read).size()
            let stride = stride(from: 0, to: size, by: name == "MANIFEST-1.mirror" ? 5 : 1)
            for offset in stride {
                let disk = model.snapshotAfterPowerCut()
                disk.flip(directory + "/" + name, offset, mask: UInt8(1 << (offset % 8)))
                let found = try #require(try recover(disk), "\(name) at \(offset)")
                #expect(found.file.state == script.states[3], "\(name) at \(offset)")
                #expect(!found.notes.isEmpty, "\(name) at \(offset)")
                let again = try #require(try recover(disk))
                #expect(again.file.state == script.states[3])
                #expect(again.notes.isEmpty)
            }
        }
    }

    /// Both copies damaged, in any two places: mended where one of them has each record, told
    /// where not. Only rot of the last record in both reads as an append that was torn.
    @Test func damageOfBothCopiesIsMendedOrTold() throws {
        let (model, script) = try threeSteps()
        let path = directory + "/MANIFEST-1"
        let size = Int(try model.open(path, .read).size())
        let lastPayload = ManifestEdit.encoded(Sample.sealing(2)).count
        let lastRecord = size - lastPayload - ManifestRecordLayout.headerBytes
        var random = SeededRandom(seed: 5)
        var told = 0
        var mended = 0
        for _ in 0..<600 {
            let disk = model.snapshotAfterPowerCut()
            let one = random.below(size)
            let other = random.oneIn(2) ? one : random.below(size)
            disk.flip(path, UInt64(one))
            disk.flip(path + ".mirror", UInt64(other))
            let state = try recoveredOrTold(disk)
            if state == nil { told += 1 } else { mended += 1 }
            let isResidue = one >= lastRecord && other >= lastRecord
            #expect(
                state == nil || state == script.states[3]
                    || isResidue && state == script.states[2],
                "\(one) \(other)")
        }
        #expect(told > 50 && mended > 50)
    }

    @Test func missingAndUnreadableFiles() throws {
        let (model, script) = try threeSteps()
        let names = ["CURRENT", "MANIFEST-1", "MANIFEST-1.mirror"]
        for name in names {
            let disk = model.snapshotAfterPowerCut()
            try disk.unlink(directory + "/" + name)
            #expect(try recover(disk)?.file.state == script.states[3], "\(name)")
            let unreadable = model.snapshotAfterPowerCut()
            unreadable.failReads(directory + "/" + name, [0..<10_000])
            #expect(try recover(unreadable)?.file.state == script.states[3], "\(name)")
        }
        let bare = model.snapshotAfterPowerCut()
        for name in names.dropFirst() { try bare.unlink(directory + "/" + name) }
        #expect(try recoveredOrTold(bare) == nil)
    }

    @Test func aCopyThatEndsEarlyIsMended() throws {
        let (model, script) = try threeSteps()
        let path = directory + "/MANIFEST-1"
        let size = try model.open(path, .read).size()
        for end in stride(from: 0, to: size, by: 7) {
            let disk = model.snapshotAfterPowerCut()
            try disk.open(path, .write).truncate(to: end)
            #expect(try recover(disk)?.file.state == script.states[3])
        }
    }

    /// A record that a peer supplied takes the place of a manifest that is beyond repair.
    @Test func aPeersRecordReplacesADamagedManifest() throws {
        let (disk, script) = try threeSteps()
        for suffix in ["", ".mirror"] {
            disk.tear(directory + "/MANIFEST-1" + suffix, 100..<400)
        }
        #expect(try recoveredOrTold(disk) == nil)
        let record = try ManifestState(decoding: script.states[3].encoded())
        _ = try ManifestFile.create(
            disk, directory: directory, identity: identity, state: record)
        #expect(try recover(disk)?.file.state == script.states[3])
        #expect(try disk.list(directory).count == 3)
    }

    /// CURRENT is lost while a rewrite had left two pairs: the one that goes further counts.
    @Test func withoutCurrentTheFurthestPairCounts() throws {
        let script = try Script(steps: 3)
        let disk = try newDisk()
        let file = try create(disk)
        try file.append(Sample.sealing(0))
        let old = try ["", ".mirror"].map {
            try disk.readAll(directory + "/MANIFEST-1" + $0, limit: 1 << 20)
        }
        try file.rewrite()
        try file.append(Sample.sealing(1))
        try file.append(Sample.sealing(2))
        for (suffix, bytes) in zip(["", ".mirror"], old) {
            try disk.open(directory + "/MANIFEST-1" + suffix, .create).writeAll(bytes, at: 0)
        }
        try disk.unlink(directory + "/CURRENT")
        let found = try #require(try recover(disk))
        #expect(found.file.state == script.states[3])
        #expect(found.notes.first?.text == "CURRENT: it is missing; it is written anew")
        #expect(try disk.list(directory).count == 3)
    }

    @Test func bytesNeverChange() throws {
        let (disk, _) = try threeSteps()
        let copy = try disk.readAll(directory + "/MANIFEST-1", limit: 1 << 20)
        #expect(try disk.readAll(directory + "/MANIFEST-1.mirror", limit: 1 << 20) == copy)
        #expect(Digest128(of: copy).description == "27e3193cb1897af89de2fc8b451705d8")
        let current = try disk.readAll(directory + "/CURRENT", limit: 1 << 20)
        #expect(
            Array(current[..<16])
                == [0x4d, 0x43, 0x55, 0x52, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
        #expect(Digest128(of: current).description == "178c5f3e6bbc1b8d4e8f45f2ddcef5d5")
    }
}
