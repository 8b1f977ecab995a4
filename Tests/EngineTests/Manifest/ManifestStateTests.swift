// The fold of edits: stand-ins, the frontier, job entries that the log may lose, local columns.
import Engine
import Testing

extension ManifestState {
    func with(_ edits: ManifestEdit...) throws -> ManifestState {
        var state = self
        try state.apply(edits)
        return state
    }
}

@Suite struct ManifestStateTests {
    private let first = Sample.flush(1...4, "a", "m")
    private let second = Sample.flush(5...8, "g", "z")

    /// Segment 1-4 flushed and sealed at 9, segment 5-8 standing in.
    private func twoSegments() throws -> ManifestState {
        try Sample.emptyState
            .with(
                .flushInstalled(
                    Sample.standIn(1...4, [first]), local: [Sample.local()],
                    horizon: SequenceNumber(2)),
                .flushedThrough(Sample.point(4, nextSequence: 5))
            )
            .with(
                .flushInstalled(
                    Sample.standIn(5...8, [second]), local: [Sample.local()], horizon: .zero),
                .flushedThrough(Sample.point(8, nextSequence: 9))
            )
            .with(
                .sealInstalled(
                    at: LogIndex(9), Sample.seal(1...4, [first]), local: [], horizon: .zero))
    }

    @Test func aStandInIsPartOfNoRoot() throws {
        let before = try Sample.emptyState.with(
            .flushInstalled(
                Sample.standIn(1...4, [first]), local: [Sample.local()], horizon: .zero),
            .flushedThrough(Sample.point(4, nextSequence: 5)))
        #expect(before.manifest.tables.isEmpty)
        #expect(before.frontier == .zero)
        #expect(before.frontierRoot.root == Sample.emptyState.frontierRoot.root)
        let after = try before.with(
            .sealInstalled(at: LogIndex(6), Sample.seal(1...4, [first]), local: [], horizon: .zero))
        #expect(after.standIns.isEmpty)
        #expect(after.manifest.tables.sortedByID == [first])
        #expect(after.local[first.id] == Sample.local())
        #expect(after.frontierRoot.root == after.manifest.stateRoot())
        #expect(after.frontier == LogIndex(6))
        #expect(after.flushed.position.index == LogIndex(4))
    }

    @Test func aSealThatDiffersReplacesTheStandIn() throws {
        let state = try twoSegments()
        var right = second
        right.digest = Digest128(low: 5, high: 5)
        #expect(throws: DecodingError.self) {
            try state.with(
                .sealInstalled(
                    at: LogIndex(10), Sample.seal(5...8, [right]), local: [], horizon: .zero))
        }
        let sealed = try state.with(
            .sealInstalled(
                at: LogIndex(10), Sample.seal(5...8, [right]), local: [Sample.local(1)],
                horizon: .zero))
        #expect(sealed.standIns.isEmpty)
        #expect(sealed.local[second.id] == Sample.local(1))
        #expect(sealed.manifest.tables.record(second.id)?.digest == right.digest)
    }

    @Test func aSegmentMayBeSealedAndInstalledAtOnce() throws {
        let state = try Sample.emptyState.with(
            .flushedThrough(Sample.point(4, nextSequence: 5)),
            .sealInstalled(
                at: LogIndex(7), Sample.seal(1...4, [first]), local: [Sample.local()],
                horizon: SequenceNumber(3)))
        #expect(state.horizon == SequenceNumber(3))
        #expect(state.manifest.sealedThrough == LogIndex(4))
    }

    @Test func jobsMoveTheFrontierAndTheirFiles() throws {
        let job = Sample.spec([first], to: 1, horizon: 44)
        let output = Sample.table(.compaction, 10, level: 1, "a", "m", sequences: 1...4)
        let state = try twoSegments().with(
            .jobStarted(at: LogIndex(10), job),
            .jobInstalled(at: LogIndex(12), Sample.compacted(10, [output]), local: [Sample.local()])
        )
        #expect(state.frontier == LogIndex(12))
        #expect(state.horizon == SequenceNumber(44))
        #expect(state.local[first.id] == nil)
        #expect(state.local[output.id] == Sample.local())
        #expect(state.manifest.jobs.isEmpty)
        let cancelled = try twoSegments().with(
            .jobStarted(at: LogIndex(10), job),
            .jobCancelled(
                at: LogIndex(11), CancelledRecord(job: LogIndex(10), reason: .failed)))
        #expect(cancelled.manifest.tables.sortedByID == [first])
        #expect(cancelled.manifest.jobs.isEmpty)
    }

    @Test func `Jobs that let go what has expired move the clock`() throws {
        func compacted(_ job: CompactionSpec) throws -> ManifestState {
            try twoSegments().with(
                .jobStarted(at: LogIndex(10), job),
                .jobInstalled(at: LogIndex(12), Sample.compacted(10, []), local: []))
        }
        let kept = try compacted(Sample.spec([first], to: 1, clock: 77))
        #expect(kept.clock == 0)
        let dropped = try compacted(Sample.spec([first], to: 1, bottommost: true, clock: 77))
        #expect(dropped.clock == 77)
        #expect(try ManifestState(decoding: dropped.encoded()) == dropped)
    }

    @Test func rootsAnswerForEveryIndexPassed() throws {
        let state = try twoSegments().with(
            .jobStarted(at: LogIndex(10), Sample.spec([first], to: 1)),
            .sealInstalled(
                at: LogIndex(15), Sample.seal(5...8, [second]), local: [], horizon: .zero))
        let empty = Sample.emptyState.manifest.stateRoot()
        let one = LogicalManifest(placing: [first]).stateRoot()
        let two = LogicalManifest(placing: [first, second]).stateRoot()
        #expect(state.root(at: LogIndex(8)) == empty)
        #expect(state.root(at: LogIndex(9)) == one)
        #expect(state.root(at: LogIndex(14)) == one)
        #expect(state.root(at: LogIndex(15)) == two)
        #expect(state.root(at: LogIndex(16)) == nil, "not passed yet")
        #expect(state.agrees(with: FrontierRoot(frontier: LogIndex(11), root: one)) == true)
        #expect(state.agrees(with: FrontierRoot(frontier: LogIndex(11), root: two)) == false)
        #expect(state.agrees(with: FrontierRoot(frontier: LogIndex(99), root: two)) == nil)
    }

    @Test func onlyTheLastRootsAreKept() throws {
        var state = Sample.emptyState
        for round in 1...1030 as ClosedRange<UInt64> {
            let segment = (round * 10)...(round * 10 + 5)
            try state.apply([
                .flushedThrough(
                    Sample.point(segment.upperBound, nextSequence: segment.upperBound + 1)),
                .sealInstalled(
                    at: LogIndex(round * 10 + 6),
                    Sample.seal(segment, [Sample.flush(segment, "a", "b")]),
                    local: [Sample.local()], horizon: .zero),
            ])
        }
        #expect(state.roots.count == ManifestState.rootCount)
        #expect(state.root(at: LogIndex(16)) == nil, "forgotten")
        #expect(state.root(at: state.frontier) == state.manifest.stateRoot())
    }

    /// F lags S: what is in (F, S] is kept, folded again after a restart, and dropped as F passes.
    @Test func jobEntriesBetweenFrontierAndFlushedPosition() throws {
        let sealEntry = JobEntry(
            Sample.entry(.seal, Sample.seal(1...4, [first]).encoded(), index: 6))
        let jobEntry = JobEntry(
            Sample.entry(.compact, Sample.spec([first], to: 1).encoded(), index: 7))
        let voidEntry = JobEntry(
            Sample.entry(.compact, Sample.spec([second], to: 1).encoded(), index: 8))
        let state = try Sample.emptyState
            .with(
                .flushInstalled(
                    Sample.standIn(1...4, [first]), local: [Sample.local()], horizon: .zero),
                .flushedThrough(Sample.point(4, nextSequence: 5))
            )
            .with(
                .jobEntry(sealEntry), .jobEntry(jobEntry), .jobEntry(voidEntry),
                .flushInstalled(
                    Sample.standIn(5...8, [second]), local: [Sample.local()], horizon: .zero),
                .flushedThrough(Sample.point(8, nextSequence: 9)))
        let base = state.replayBase()
        #expect(base.outcomes.map(\.index) == [6, 7, 8].map { LogIndex($0) })
        #expect(base.outcomes[0].outcome == .sealed(Sample.seal(1...4, [first])))
        #expect(base.outcomes[2].outcome == .jobVoid(.inputNotLive(second.id)))
        #expect(base.manifest.jobs.map(\.index) == [LogIndex(7)])
        #expect(base.manifest.unsealed == [state.standIns[1].segment])
        #expect(state.manifest.jobs.isEmpty)
        let later = try state.with(
            .sealInstalled(at: LogIndex(6), Sample.seal(1...4, [first]), local: [], horizon: .zero))
        #expect(later.jobEntries == [jobEntry, voidEntry])
        let last = try later.with(
            .jobStarted(at: LogIndex(7), Sample.spec([first], to: 1)))
        #expect(last.jobEntries == [voidEntry])
        #expect(last.replayBase().manifest == base.manifest, "wherever the frontier stands")
    }

    @Test func healsAreConditionalOnTheGeneration() throws {
        let state = try twoSegments()
        let healed = try state.with(.healed(first.id, replacing: 0, Sample.local(1, bytes: 5000)))
        #expect(healed.local[first.id] == Sample.local(1, bytes: 5000))
        #expect(healed.frontierRoot == state.frontierRoot)
        #expect(throws: DecodingError.self) {
            try healed.with(.healed(first.id, replacing: 0, Sample.local(1)))
        }
        #expect(throws: DecodingError.self) {
            try healed.with(.healed(first.id, replacing: 1, Sample.local(1)))
        }
    }

    /// A peer's record comes with the peer's files; the receiver puts its own in their place.
    @Test func anAdoptedRecordGetsTheReceiversFiles() throws {
        var state = try ManifestState(decoding: twoSegments().encoded())
        #expect(throws: DecodingError.self) {
            var copy = state
            try copy.adopt(local: [first.id: Sample.local(7)])
        }
        let own = [first.id: Sample.local(7), second.id: Sample.local(0)]
        try state.adopt(local: own)
        #expect(state.local == own)
        #expect(try state.frontierRoot == twoSegments().frontierRoot)
    }

    @Test func editsThatContradictAreRefused() throws {
        let state = try twoSegments()
        let refused: [[ManifestEdit]] = [
            [.flushedThrough(Sample.point(7, nextSequence: 9))],
            [.flushedThrough(Sample.point(9, nextSequence: 8))],
            [
                .flushInstalled(
                    Sample.standIn(9...12, [Sample.flush(9...12, "a", "b")]),
                    local: [Sample.local()], horizon: .zero)
            ],
            [
                .flushInstalled(
                    Sample.standIn(5...8, [second]), local: [Sample.local()], horizon: .zero)
            ],
            [
                .sealInstalled(
                    at: LogIndex(9), Sample.seal(5...8, [second]), local: [], horizon: .zero)
            ],
            [
                .sealInstalled(
                    at: LogIndex(10), Sample.seal(1...4, [first]), local: [Sample.local()],
                    horizon: .zero)
            ],
            [
                .sealInstalled(
                    at: LogIndex(10), Sample.seal(6...8, [second]), local: [], horizon: .zero)
            ],
            [.jobInstalled(at: LogIndex(10), Sample.compacted(10, []), local: [])],
            [.jobCancelled(at: LogIndex(10), CancelledRecord(job: LogIndex(10), reason: .failed))],
            [.jobStarted(at: LogIndex(10), Sample.spec([second], to: 1))],
            [
                .jobEntry(
                    JobEntry(
                        Sample.entry(.compact, Sample.spec([first], to: 1).encoded(), index: 10)))
            ],
            [.jobEntry(JobEntry(index: LogIndex(10), kind: .write, payload: []))],
        ]
        for edits in refused {
            var copy = state
            #expect(throws: DecodingError.self, "\(edits)") { try copy.apply(edits) }
        }
    }

    @Test func settingsMembersAndBounds() throws {
        var settings = LoggedSettings()
        settings.blockBytes = 8192
        let membership = Membership([
            Member(id: MemberID(3), peerAddress: "c:1", clientAddress: "c:2")
        ])
        let state = try Sample.emptyState.with(
            .settings(settings), .membership(membership),
            .bounds(LogBounds(index: LogIndex(9), sequence: SequenceNumber(90))),
            .bounds(LogBounds(index: LogIndex(8), sequence: SequenceNumber(91))))
        #expect(state.settings == settings)
        #expect(state.membership == membership)
        #expect(state.bounds == LogBounds(index: LogIndex(9), sequence: SequenceNumber(91)))
    }

    // MARK: - Bytes

    private func richState() throws -> ManifestState {
        let late = JobEntry(
            Sample.entry(.compact, Sample.spec([first], to: 1).encoded(), index: 14))
        return try twoSegments()
            .with(
                .jobStarted(at: LogIndex(10), Sample.spec([first], to: 1)),
                .membership(
                    Membership([Member(id: MemberID(3), peerAddress: "c:1", clientAddress: "c:2")])),
                .jobEntry(late), .flushedThrough(Sample.point(16, nextSequence: 12)),
                .bounds(LogBounds(index: LogIndex(18), sequence: SequenceNumber(33))))
    }

    @Test func stateRoundTrips() throws {
        let state = try richState()
        #expect(try ManifestState(decoding: state.encoded()) == state)
        #expect(try ManifestState(decoding: Sample.emptyState.encoded()) == Sample.emptyState)
        #expect(Digest128(of: state.encoded()).description == "1efc10675b20fe4b6d5eda168b3944d2")
    }

    @Test func cutAndFlippedStatesNeverTrap() throws {
        let bytes = try richState().encoded()
        for count in bytes.indices {
            #expect(throws: DecodingError.self) {
                try ManifestState(decoding: Array(bytes[..<count]))
            }
        }
        for position in bytes.indices {
            for mask: UInt8 in [1, 0x40, 0xff] {
                var flipped = bytes
                flipped[position] ^= mask
                guard let state = try? ManifestState(decoding: flipped) else { continue }
                _ = state.replayBase()
                #expect(state.encoded() == flipped, "one value has one encoding")
            }
        }
    }

    /// Nobody counts so far, whatever a right checksum says: arithmetic behind would overflow.
    @Test(
        arguments: [
            (10, .max), (18, .max), (18, 1 << 62), (42, 0), (42, 1 << 56), (58, .max), (74, .max),
            (74, (1 << 62) - 1), (82, .max), (82, (1 << 56) - 1),
        ] as [(Int, UInt64)])
    func numbersOutOfRangeAreRefused(offset: Int, value: UInt64) throws {
        var bytes = Sample.emptyState.encoded()
        for place in 0..<8 {
            bytes[offset + place] = UInt8(truncatingIfNeeded: value >> (8 * place))
        }
        #expect(throws: DecodingError.self) { try ManifestState(decoding: bytes) }
    }

    @Test func hugeFilesAndLastGenerationsAreRefused() throws {
        for row in [
            LocalTable(generation: .max, codec: 0, fileBytes: 1),
            LocalTable(generation: 0, codec: 0, fileBytes: .max),
        ] {
            let bytes = ManifestEdit.encoded([.healed(first.id, replacing: 0, row)])
            #expect(throws: DecodingError.self) {
                try bytes.withUnsafeBytes { try ManifestEdit.decoded($0) }
            }
        }
        var table = first
        table.canonicalBytes = .max
        let seal = Sample.seal(1...4, [table]).encoded()
        #expect(throws: DecodingError.self) {
            try seal.withUnsafeBytes { try SealRecord(decoding: $0) }
        }
    }

    @Test func editsRoundTrip() throws {
        let output = Sample.table(.compaction, 10, level: 1, "a", "m", sequences: 1...4)
        let edits: [ManifestEdit] = [
            .flushInstalled(
                Sample.standIn(1...4, [first]), local: [Sample.local(3)], horizon: SequenceNumber(5)
            ),
            .flushedThrough(Sample.point(4, nextSequence: 5)),
            .sealInstalled(at: LogIndex(9), Sample.seal(1...4, [first]), local: [], horizon: .zero),
            .jobStarted(at: LogIndex(10), Sample.spec([first], to: 1)),
            .jobInstalled(
                at: LogIndex(11), Sample.compacted(10, [output]), local: [Sample.local()]),
            .jobCancelled(at: LogIndex(12), CancelledRecord(job: LogIndex(3), reason: .requested)),
            .jobEntry(
                JobEntry(Sample.entry(.compact, Sample.spec([first], to: 1).encoded(), index: 14))),
            .healed(output.id, replacing: 0, Sample.local(1)),
            .settings(LoggedSettings()), .membership(Membership()),
            .bounds(LogBounds(index: LogIndex(1), sequence: SequenceNumber(2))),
        ]
        let bytes = ManifestEdit.encoded(edits)
        #expect(try bytes.withUnsafeBytes { try ManifestEdit.decoded($0) } == edits)
        #expect(Digest128(of: bytes).description == "5fe93b14f29272e1a59332bc50c076ef")
        for count in bytes.indices {
            #expect(throws: DecodingError.self) {
                try Array(bytes[..<count]).withUnsafeBytes { try ManifestEdit.decoded($0) }
            }
        }
    }
}
