// The log without accidents: what is appended comes back, across segments, reopens and both sync
// policies; what does not belong is refused.
import Engine
import Testing

@Suite struct LogAppendTests {
    @Test(arguments: [LogSyncPolicy.always, .never])
    func entriesComeBackAcrossSegmentsAndReopens(_ policy: LogSyncPolicy) throws {
        let rig = try LogRig(sync: policy)
        var stored: [Entry] = []
        for round in 0..<20 {
            stored += try rig.append(
                1 + round % 5, term: UInt64(1 + round / 7), bytes: 50 + 97 * round % 900,
                sync: round % 3 == 0)
            if round % 6 == 5 { try rig.kill() }
        }
        #expect(try rig.all().headers == stored.headers)
        #expect(try rig.segmentFirsts().count > 3)
        try rig.kill()
        #expect(try rig.all().map(\.encoded) == stored.map(\.encoded))
        #expect(rig.log.last == stored.last?.position)
        #expect(rig.recovery.holes.isEmpty)
        #expect(rig.log.termRuns.map(\.term.rawValue) == [1, 2, 3])
    }

    @Test func segmentsEndByTheRule() throws {
        let rig = try LogRig(segmentBytes: 4096)
        try rig.append(4, bytes: 1024)
        #expect(try rig.segmentFirsts() == [1])
        try rig.append(1, bytes: 10)
        #expect(try rig.segmentFirsts() == [1, 5])
        let rotate = LogRig.entry(after: rig.log.last, kind: .rotate, payload: [])
        try rig.log.append([rotate], sync: true)
        try rig.append(1)
        #expect(try rig.segmentFirsts() == [1, 5, 7])
    }

    @Test func settingsActFromTheNextSegmentAndFallWithATruncation() throws {
        let rig = try LogRig(segmentBytes: 4096)
        var settings = LoggedSettings()
        settings.segmentBytes = 8192
        let change = LogRig.entry(
            after: rig.log.last, kind: .settings, payload: settings.encoded())
        try rig.log.append([change], sync: true)
        try rig.append(4, bytes: 1024)  // ends segment 1, still by 4096
        try rig.append(8, bytes: 1024)  // segment 2, by 8192
        #expect(try rig.segmentFirsts() == [1, 6])
        try rig.append(1)
        #expect(try rig.segmentFirsts() == [1, 6, 14])
        try rig.kill()
        #expect(rig.log.settings(before: LogIndex(14)).segmentBytes == 8192)
        #expect(rig.log.settings(before: LogIndex(1)).segmentBytes == 4096)

        try rig.log.truncate(after: .zero)
        #expect(rig.log.settings(before: LogIndex(14)).segmentBytes == 4096)
        try rig.append(5, bytes: 1024)
        #expect(try rig.segmentFirsts() == [1, 5])
    }

    @Test func whatDoesNotContinueTheLogIsRefused() throws {
        let rig = try LogRig()
        let stored = try rig.append(3, term: 2)
        let last = rig.log.last
        let wrongIndex = LogRig.entry(
            after: Position(term: Term(2), index: LogIndex(7), checksum: last.checksum), term: 2)
        let wrongChain = LogRig.entry(
            after: Position(term: Term(2), index: LogIndex(3), checksum: .zero), term: 2)
        let oldTerm = LogRig.entry(after: last, term: 1)
        let badSettings = LogRig.entry(after: last, term: 2, kind: .settings, payload: [1, 2, 3])
        for entry in [wrongIndex, wrongChain, oldTerm, badSettings] {
            #expect(throws: EngineError.self) { try rig.log.append([entry], sync: true) }
        }
        #expect(try rig.all().headers == stored.headers)
        try rig.append(1, term: 2)
        #expect(rig.log.last.index == LogIndex(4))
    }

    @Test func aSmallCommitTakesOneSector() throws {
        let rig = try LogRig()
        try rig.append(1, bytes: 100)
        try rig.append(1, bytes: 100)
        let entries = try rig.all()
        #expect(try rig.frameOffset(entries[0], in: rig.path(1)) == 512)
        #expect(try rig.frameOffset(entries[1], in: rig.path(1)) == 1024)
    }

    /// Trap 30: a mapped log made each sync three times slower, so only an unsynced one is mapped.
    @Test(arguments: [LogSyncPolicy.always, .never])
    func onlyAnUnsyncedLogIsMapped(_ policy: LogSyncPolicy) throws {
        let files = RecordingFileSystem(MemoryFileSystem(seed: 1))
        try files.createDirectory("d")
        let hardState = try HardState.open(files, LogRig.statePath, nonce: 1)
        var base = LogBase()
        base.settings.segmentBytes = 4096
        let (log, _) = try Log.open(
            files, LogRig.directory, hardState: hardState, genesis: LogRig.genesis, group: 0,
            options: LogOptions(sync: policy), base: base)
        for _ in 0..<30 {
            try log.append([LogRig.entry(after: log.last, bytes: 700)], sync: policy == .always)
        }
        if policy == .always {
            #expect(files.mapped.isEmpty)
        } else {
            #expect(Set(files.mapped).count > 2 && files.mapped.allSatisfy { $0.hasSuffix(".seg") })
        }
    }

    @Test func readsAreBoundedAndSayWhatIsGone() throws {
        let rig = try LogRig()
        try rig.append(40, bytes: 500)
        #expect(try rig.log.entries(from: LogIndex(3), maxBytes: 1).indexes == [3])
        #expect(try rig.log.entries(from: LogIndex(3), maxBytes: 1800).indexes == [3, 4, 5])
        #expect(try rig.log.entries(from: LogIndex(41), maxBytes: 100).isEmpty)
        try rig.log.trim(through: LogIndex(20))
        let first = rig.log.first
        #expect(first > LogIndex(1) && first <= LogIndex(21))
        #expect {
            try rig.log.entries(from: LogIndex(1), maxBytes: 100)
        } throws: { error in
            guard case .logTrimmed(let start) = error as? EngineError else { return false }
            return start == first
        }
        #expect(rig.log.position(at: first - 1) != nil)
        #expect(rig.log.term(at: first) == Term(1))
    }

    @Test func historyOutlivesReopensAndItsTablesAreReadOnDemand() throws {
        let rig = try LogRig()
        rig.options.cachedTables = 1
        let stored = try rig.append(60, bytes: 700)
        let firsts = try rig.segmentFirsts()
        rig.base.position = stored[Int(firsts.last!) - 2].position
        try rig.kill()
        #expect(try rig.all().headers == stored.headers)
        for index in [5, 50, 7, 33, 60] {
            #expect(rig.log.position(at: LogIndex(UInt64(index))) == stored[index - 1].position)
        }
        // A footer that rots costs time, nothing else.
        let path = rig.path(firsts[1])
        rig.fileSystem.flip(path, UInt64(try rig.raw(path).count - 10))
        try rig.kill()
        #expect(!rig.recovery.events.isEmpty)
        #expect(try rig.all().headers == stored.headers)
    }

    @Test func trimmedFilesAreRecycled() throws {
        let rig = try LogRig()
        try rig.append(40, bytes: 500)
        let old = try rig.segmentFirsts()
        rig.base.position = try #require(rig.log.position(at: LogIndex(old[2] - 1)))
        try rig.log.trim(through: LogIndex(old[2] - 1))
        #expect(try rig.segmentFirsts() == Array(old[2...]))
        #expect(rig.fileSystem.exists(LogRig.directory + "/spare"))
        let stored = try rig.append(30, bytes: 500)
        #expect(!rig.fileSystem.exists(LogRig.directory + "/spare"))
        try rig.kill()
        #expect(try rig.all().suffix(30).map(\.header) == stored.headers)
    }

    /// Two that made one at once left a log that took a spare file for there that was not.
    @Test func oneAtATimeMakesTheSpareFile() throws {
        let files = RecordingFileSystem(MemoryFileSystem(seed: 1))
        try files.createDirectory("d")
        let hardState = try HardState.open(files, LogRig.statePath, nonce: 1)
        var base = LogBase()
        base.settings.segmentBytes = 4096
        let (log, _) = try Log.open(
            files, LogRig.directory, hardState: hardState, genesis: LogRig.genesis, group: 0,
            options: LogOptions(), base: base)
        func append(_ count: Int) throws {
            for _ in 0..<count {
                try log.append([LogRig.entry(after: log.last, term: 1, bytes: 500)], sync: true)
            }
        }
        try append(30)
        var filled: [String] = []
        var tries = 0
        files.onCreate = { if $0.contains("spare") { filled.append($0) } }
        files.onRename = { from, to in
            guard to.hasSuffix("/spare"), from.hasSuffix(".seg") else { return }
            tries += 1
            // What a background thread may do now.
            do { try log.prepareNext() } catch { Issue.record("\(error)") }
        }
        try log.trim(through: LogIndex(15))
        #expect(tries == 1 && filled.isEmpty, "\(filled)")
        #expect(files.exists(LogRig.directory + "/spare"))
        try append(30)
        #expect(log.last.index == LogIndex(60))
    }

    /// It holds nothing that anybody needs.
    @Test func anUnreadableSpareFileKeepsNothingFromOpening() throws {
        let rig = try LogRig()
        try rig.append(6, bytes: 500)
        try rig.log.prepareNext()
        let spare = LogRig.directory + "/spare"
        #expect(rig.fileSystem.exists(spare))
        rig.fileSystem.failReads(spare, [0..<512])
        try rig.kill()
        #expect(!rig.fileSystem.exists(spare) && rig.log.last.index == LogIndex(6))
        try rig.append(10, bytes: 500)
    }

    @Test func aPreparedFileIsUsed() throws {
        let rig = try LogRig()
        try rig.append(6, bytes: 500)
        #expect(rig.log.wantsPreparation)
        try rig.log.prepareNext()
        #expect(!rig.log.wantsPreparation)
        #expect(rig.fileSystem.exists(LogRig.directory + "/spare"))
        try rig.append(10, bytes: 500)
        #expect(!rig.fileSystem.exists(LogRig.directory + "/spare"))
        try rig.powerCut()
        #expect(rig.log.last.index == LogIndex(16))
    }

    @Test func noSpaceLeavesTheLogAsItWas() throws {
        let rig = try LogRig(segmentBytes: 16384)
        let stored = try rig.append(3)
        rig.fileSystem.capacity = rig.fileSystem.capacity - rig.fileSystem.capacity
        #expect {
            try rig.append(30, bytes: 2000)
        } throws: { error in
            guard case .file(let failure) = error as? EngineError else { return false }
            return failure.isNoSpace
        }
        #expect(rig.log.last == stored.last?.position)
        rig.fileSystem.capacity = .max
        let more = try rig.append(2, term: 2, salt: 9)
        try rig.powerCut()
        #expect(try rig.all().headers == (stored + more).headers)
    }

    /// A segment ends, and there is no descriptor for the next one's file or for its name.
    @Test(arguments: 0..<4, [LogSyncPolicy.always, .never])
    func withoutDescriptorsTheLogIsAsItWas(budget: Int, sync: LogSyncPolicy) throws {
        for usesSpare in [false, true] {
            let base = MemoryFileSystem(seed: 1)
            try base.createDirectory("d")
            let files = ScarceFileSystem(base)
            var options = LogOptions(sync: sync)
            options.aheadBytes = 4096
            var settings = LogBase()
            settings.settings.segmentBytes = 4096
            func open(nonce: UInt64) throws -> Log {
                let state = try HardState.open(base, LogRig.statePath, nonce: nonce, keys: .plain)
                return try Log.open(
                    files, LogRig.directory, hardState: state, genesis: LogRig.genesis, group: 0,
                    options: options, base: settings
                ).0
            }
            let log = try open(nonce: 1)
            var stored: [Entry] = []
            func append() throws {
                let entry = LogRig.entry(after: log.last, bytes: 1_000)
                try log.append([entry], sync: sync == .always)
                stored.append(entry)
            }
            for _ in 0..<2 { try append() }
            if usesSpare { try log.prepareNext() }
            files.left = budget
            var refusals = 0
            for _ in 0..<30 {
                let before = log.last
                do { try append() } catch {
                    guard (error as? EngineError)?.isShortage == true else { throw error }
                    #expect(log.last == before)
                    refusals += 1
                    files.left = refusals == 1 ? 0 : budget + 1
                }
            }
            files.left = .max
            #expect(refusals > 0)
            for _ in 0..<4 { try append() }
            _ = try log.sync()
            base.powerCut()
            #expect(try LogRig.all(try open(nonce: 2)).headers == stored.headers)
        }
    }

    @Test func aFailedSyncPoisons() throws {
        let rig = try LogRig()
        try rig.append(1)
        rig.fileSystem.failNextSync(rig.path(1))
        for _ in 0..<2 {
            #expect {
                try rig.append(1)
            } throws: { error in
                guard case .poisoned = error as? EngineError else { return false }
                return true
            }
        }
        #expect(throws: EngineError.self) { try rig.log.truncate(after: .zero) }
        #expect(throws: EngineError.self) { _ = try rig.log.sync() }
    }

    @Test func anotherClustersLogIsRefused() throws {
        let rig = try LogRig()
        try rig.append(1)
        #expect {
            _ = try Log.open(
                rig.fileSystem, LogRig.directory, hardState: rig.hardState,
                genesis: logGenesis(cluster: "other", group: 0), group: 0,
                options: rig.options, base: LogBase())
        } throws: { error in
            guard case .identity = error as? EngineError else { return false }
            return true
        }
    }

    @Test func aLogThatEndedEarlyGoesOnAboveTheBound() throws {
        let rig = try LogRig(sync: .never)
        let stored = try rig.append(5, sync: false)
        rig.base.highestIndex = LogIndex(9)
        try rig.kill()
        #expect(rig.recovery.endedEarly)
        try rig.log.skip(to: LogIndex(10))
        let next = Entry(
            kind: .noop, payload: [], previous: rig.log.last.checksum, group: 0, term: Term(2),
            index: LogIndex(10), firstSequence: SequenceNumber(10), clock: 1, commit: .zero)
        try rig.log.append([next], sync: false)
        try rig.kill()
        #expect(!rig.recovery.endedEarly)
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == (stored + [next]).headers)
        #expect(try rig.log.entries(from: LogIndex(7), maxBytes: 10).indexes == [10])
        // The header that says so may rot: the footer before says it too.
        rig.fileSystem.flip(rig.path(10), 30)
        try rig.kill()
        #expect(rig.recovery.holes.isEmpty)
        #expect(try rig.all().headers == (stored + [next]).headers)
    }
}
