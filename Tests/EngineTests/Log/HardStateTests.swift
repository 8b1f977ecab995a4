// The file `state`: what it must never forget, whichever of its copies are lost.
import Engine
import Testing

@Suite struct HardStateTests {
    private let path = "state"

    private func open(_ files: MemoryFileSystem, nonce: UInt64 = 7) throws -> HardState {
        try HardState.open(files, path, nonce: nonce)
    }

    private func damage(_ files: MemoryFileSystem, _ copy: Int) {
        files.flip(path, UInt64(copy) * 65536 + 20, mask: 0xff)
    }

    @Test func survivesReopens() throws {
        let files = MemoryFileSystem(seed: 1)
        let state = try open(files)
        #expect(state.wasCreated && state.isVoteTrusted)
        #expect(state.current.bootCounter == 1)
        try state.saveVote(term: Term(3), vote: MemberID(2))
        try state.saveVote(term: Term(4), vote: .none)
        try state.saveVote(term: Term(4), vote: MemberID(1))
        files.powerCut()
        let again = try open(files, nonce: 8)
        #expect(!again.wasCreated && again.isVoteTrusted)
        #expect(again.current.term == Term(4) && again.current.vote == MemberID(1))
        #expect(again.current.bootCounter == 2 && again.current.nonce == 8)
    }

    @Test func hardStateCopiesDamagedInEveryCombination() throws {
        for lost in 0..<16 {
            let files = MemoryFileSystem(seed: UInt64(lost))
            let state = try open(files)
            try state.saveVote(term: Term(5), vote: MemberID(2))
            try state.saveVote(term: Term(6), vote: MemberID(3))
            files.restart()
            for copy in 0..<4 where lost & (1 << copy) != 0 { damage(files, copy) }
            let again = try open(files)
            let isSafe = lost & 3 != 3
            #expect(again.isVoteTrusted == isSafe, "copies \(lost) lost")
            if lost != 15 { #expect(again.current.term == Term(6)) }
            // The doubt outlives the repair of the copies, until the cluster says otherwise.
            files.powerCut()
            let later = try open(files)
            #expect(later.isVoteTrusted == isSafe)
            try later.restoreVoteTrust()
            files.powerCut()
            #expect(try open(files).isVoteTrusted)
        }
    }

    @Test func anOlderCopyBehindLostOnesIsNotTrusted() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let files = MemoryFileSystem(seed: seed)
            let state = try open(files)
            try state.saveVote(term: Term(5), vote: MemberID(2))
            files.powerCut()  // copies 2 and 3 may be of before
            damage(files, 0)
            damage(files, 1)
            #expect(try !open(files).isVoteTrusted)
        }
    }

    /// Trap 26: a vote that was saved is never lost.
    @Test func everySavedVoteSurvivesAPowerCutAtAnyStep() throws {
        var random = SeededRandom(seed: 11)
        for round in 0..<60 {
            let files = MemoryFileSystem(seed: UInt64(round))
            let state = try open(files)
            var saved = 0 as UInt64
            files.stop(after: random.below(40))
            do {
                for term in 1...20 as ClosedRange<UInt64> {
                    try state.saveVote(term: Term(term), vote: MemberID(term % 3 + 1))
                    saved = term
                }
            } catch {}
            files.powerCut()
            let again = try open(files)
            #expect(again.isVoteTrusted)
            #expect(again.current.term.rawValue >= saved)
            #expect(again.current.bootCounter == 2)
        }
    }

    @Test func aFailedSyncPoisons() throws {
        let files = MemoryFileSystem(seed: 1)
        let state = try open(files)
        files.failNextSync(path)
        for _ in 0..<2 {
            #expect(throws: EngineError.self) {
                try state.saveVote(term: Term(2), vote: .none)
            }
        }
        #expect(state.current.term == .zero)
    }

    @Test func failedSyncProcessRestartedPageCacheClean() throws {
        let files = MemoryFileSystem(seed: 3)
        let state = try open(files)
        try state.saveVote(term: Term(2), vote: MemberID(1))
        files.failNextSync(path)
        #expect(throws: EngineError.self) {
            try state.saveVote(term: Term(3), vote: MemberID(2))
        }
        files.restart()
        let shown = try open(files).current
        files.powerCut()
        let after = try open(files).current
        #expect(after.term == shown.term && after.vote == shown.vote)
    }
}
