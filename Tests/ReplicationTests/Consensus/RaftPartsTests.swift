// The small parts of the machine, against naive versions of themselves.
import Engine
import Replication
import Testing

@Suite("Raft: parts")
struct RaftPartsTests {
    private func random(_ seed: UInt64) -> (Int) -> Int {
        var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
        return { bound in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state >> 11) % bound
        }
    }

    @Test("term runs say what an array of terms says")
    func logAgainstArray() {
        for seed in 1...200 as ClosedRange<UInt64> {
            let draw = random(seed)
            var log = RaftLog()
            var terms: [UInt64] = [0]
            var base = 0
            for _ in 0..<100 {
                switch draw(10) {
                case 0:
                    let after = base + draw(terms.count - base)
                    log.truncate(after: LogIndex(UInt64(after)))
                    terms.removeLast(terms.count - 1 - after)
                case 1:
                    let first = base + 1 + draw(terms.count - base)
                    log.trim(before: LogIndex(UInt64(first)))
                    base = first - 1
                default:
                    terms.append(terms[terms.count - 1] + (draw(4) == 0 ? 1 : 0))
                    log.append(term: Term(terms[terms.count - 1]))
                }
                check(log, terms, base: base, draw)
            }
        }
    }

    private func check(_ log: RaftLog, _ terms: [UInt64], base: Int, _ draw: (Int) -> Int) {
        #expect(log.last == LogIndex(UInt64(terms.count - 1)))
        #expect(log.first == LogIndex(UInt64(base + 1)))
        #expect(log.lastTerm == Term(terms[terms.count - 1]))
        let index = draw(terms.count + 3)
        let expected = index < base || index >= terms.count ? nil : Term(terms[index])
        #expect(log.term(at: LogIndex(UInt64(index))) == expected)
        let limit = UInt64(draw(Int(terms[terms.count - 1]) + 2))
        var naive = min(index, terms.count - 1)
        while naive > base, terms[naive] > limit { naive -= 1 }
        let found = log.lastIndex(atOrBelow: LogIndex(UInt64(index)), termAtMost: Term(limit))
        #expect(found == LogIndex(UInt64(naive)))
        #expect(log.runs.count <= Int(terms[terms.count - 1]) + 1)
    }

    @Test("a log starts from runs that reach before its first entry")
    func logFromRuns() {
        let runs = [
            TermRun(term: Term(1), first: LogIndex(1)), TermRun(term: Term(3), first: LogIndex(4)),
            TermRun(term: Term(4), first: LogIndex(9)),
        ]
        let log = RaftLog(first: LogIndex(6), last: LogIndex(10), runs: runs)
        #expect(log.baseTerm == Term(3))
        #expect(log.term(at: LogIndex(6)) == Term(3))
        #expect(log.term(at: LogIndex(10)) == Term(4))
        let forgotten = RaftLog(
            first: LogIndex(6), last: LogIndex(10),
            runs: [TermRun(term: Term(4), first: LogIndex(6))])
        #expect(forgotten.term(at: LogIndex(5)) == nil)
        let empty = RaftLog(first: LogIndex(6), last: LogIndex(5), runs: [], baseTerm: Term(2))
        #expect(empty.lastTerm == Term(2))
        #expect(RaftLog(first: LogIndex(1), last: .zero, runs: []).term(at: .zero) == .zero)
    }

    private func hole(_ lower: UInt64, _ upper: UInt64, _ checksum: Digest128? = nil) -> LogHole {
        LogHole(lower: LogIndex(lower), upper: LogIndex(upper), checksum: checksum)
    }

    private func terms(_ log: RaftLog, _ indexes: ClosedRange<UInt64>) -> [UInt64?] {
        indexes.map { log.term(at: LogIndex($0))?.rawValue }
    }

    private let twoRuns = [
        TermRun(term: Term(2), first: LogIndex(1)), TermRun(term: Term(5), first: LogIndex(9)),
    ]

    @Test("lost entries between two terms are of neither")
    func lostTerms() {
        let end = LogIndex(10)
        func log(_ holes: LogHole...) -> RaftLog {
            RaftLog(first: LogIndex(1), last: end, runs: twoRuns, holes: holes)
        }
        #expect(terms(log(hole(3, 6)), 2...7) == [2, 2, 2, 2, 2, 2], "between equal ones")
        #expect(terms(log(hole(6, 8)), 5...9) == [2, nil, nil, nil, 5])
        #expect(terms(log(hole(6, 10)), 5...10) == [2, nil, nil, nil, nil, 5], "promised")
        #expect(log(hole(6, 8)).lastTerm == Term(5))
        #expect(log(hole(6, 8)).lastKnown(atOrBelow: LogIndex(7)) == LogIndex(5))
        #expect(log(hole(6, 8)).lastKnown(atOrBelow: LogIndex(9)) == LogIndex(9))
        // The one in between is known, and both around it are not.
        #expect(terms(log(hole(4, 5), hole(7, 8)), 3...9) == [2, 2, 2, 2, nil, nil, 5])
        var cut = log(hole(6, 8))
        cut.truncate(after: LogIndex(7))
        #expect(terms(cut, 5...8) == [2, nil, nil, nil])
        cut.trim(before: LogIndex(7))
        #expect(terms(cut, 7...8) == [nil, nil])
    }

    @Test("what is mended is known, and with it what lies between equal terms")
    func mendedTerms() {
        var log = RaftLog(
            first: LogIndex(1), last: LogIndex(10), runs: twoRuns, holes: [hole(4, 8)])
        log.place(term: Term(3), at: LogIndex(8))
        #expect(terms(log, 3...9) == [2, nil, nil, nil, nil, 3, 5])
        log.place(term: Term(2), at: LogIndex(6))
        #expect(terms(log, 3...9) == [2, 2, 2, 2, nil, 3, 5])
        log.place(term: Term(3), at: LogIndex(7))
        #expect(terms(log, 3...9) == [2, 2, 2, 2, 3, 3, 5])
        #expect(log.lost.isEmpty)
    }

    @Test("entries that end with a lost one are what was lost")
    func learnedTerms() {
        var entries: [Entry] = []
        var tail = LogPoint.beginning(genesis: logGenesis(cluster: "test", group: 0))
        for (place, term) in [2, 2, 2, 2, 2, 3, 4, 4, 5, 5].enumerated() {
            let entry = Entry(
                kind: .noop, payload: [], previous: tail.position.checksum, group: 0,
                term: Term(UInt64(term)), index: LogIndex(UInt64(place + 1)),
                firstSequence: tail.nextSequence, clock: 0, commit: .zero)
            entries.append(entry)
            tail = LogPoint(after: entry)
        }
        let lost = RaftLog(
            first: LogIndex(1), last: LogIndex(10), runs: twoRuns,
            holes: [hole(5, 8, entries[7].header.checksum)])
        var log = lost
        log.learn(from: Array(entries[6...8]))
        #expect(terms(log, 4...9) == [2, nil, nil, 4, 4, 5])
        log.learn(from: Array(entries[...5]))
        #expect(terms(log, 4...9) == [2, 2, 3, 4, 4, 5])
        log = lost
        log.learn(from: Array(entries[...6]))
        #expect(log.lost == lost.lost, "they do not reach the one that is known")
    }

    @Test("majorities agree with sorting")
    func quorumAgainstSorting() {
        let draw = random(3)
        for _ in 0..<5000 {
            var members: [Progress] = []
            var voters: [UInt64] = []
            for id in 1...(1 + draw(8)) {
                var member = Progress(id: MemberID(UInt64(id)), isVoter: draw(4) != 0)
                let match = LogIndex(UInt64(draw(6)))
                member.accepted(through: match, now: 0)
                member.vote = [true, false, nil][draw(3)]
                if member.isVoter { voters.append(match.rawValue) }
                members.append(member)
            }
            let sorted = voters.sorted(by: >)
            let expected = sorted.isEmpty ? 0 : sorted[sorted.count / 2]
            #expect(Quorum.reached(members) { $0.match.rawValue } == expected)
            let granted = members.count { $0.isVoter && $0.vote == true }
            let refused = members.count { $0.isVoter && $0.vote == false }
            switch Quorum.outcome(members) {
            case .won: #expect(granted * 2 > voters.count)
            case .lost: #expect(voters.isEmpty || (voters.count - refused) * 2 <= voters.count)
            case .open:
                #expect(granted * 2 <= voters.count && (voters.count - refused) * 2 > voters.count)
            }
        }
    }

    @Test("a member that comes back with less had not caught up while it was away")
    func caughtUpNoMore() {
        var member = Progress(id: MemberID(2), isVoter: true)
        member.becomeReplicate()
        member.accepted(through: LogIndex(100), now: 10)
        member.heartbeatSent(round: 1, commit: LogIndex(100), now: 5_000)
        #expect(member.caughtUpAt == 5_000)
        // Its log may still be longer than what is asked for.
        member.becomeProbe(next: LogIndex(101))
        #expect(member.caughtUpAt == 5_000)
        member.becomeProbe(next: LogIndex(51))
        #expect(member.match == LogIndex(50) && member.caughtUpAt == nil)
        member.heartbeatSent(round: 2, commit: LogIndex(100), now: 6_000)
        member.accepted(through: LogIndex(99), now: 6_050)
        #expect(member.caughtUpAt == nil)
        member.accepted(through: LogIndex(100), now: 6_100)
        #expect(member.caughtUpAt == 6_000)
    }

    @Test("joint majorities agree with both halves taken by themselves")
    func jointQuorumAgainstHalves() {
        let draw = random(5)
        var outcomes: Set<String> = []
        for _ in 0..<5000 {
            var members: [Progress] = []
            for id in 1...(1 + draw(8)) {
                var member = Progress(id: MemberID(UInt64(id)), isVoter: draw(3) != 0)
                member.wasVoter = draw(2) == 0
                member.accepted(through: LogIndex(UInt64(draw(6))), now: 0)
                member.vote = [true, false, nil][draw(3)]
                members.append(member)
            }
            let halves = [members.filter(\.isVoter), members.filter(\.wasVoter)]
            guard halves.allSatisfy({ !$0.isEmpty }) else { continue }
            // The highest value that more than half of each has.
            let expected = (0...6).last { bar in
                halves.allSatisfy { half in
                    half.count { $0.match.rawValue >= UInt64(bar) } * 2 > half.count
                }
            }
            #expect(Quorum.reached(members) { $0.match.rawValue } == UInt64(expected ?? 0))
            let isWon = halves.allSatisfy { half in
                half.count { $0.vote == true } * 2 > half.count
            }
            let canWin = halves.allSatisfy { half in
                half.count { $0.vote != false } * 2 > half.count
            }
            let outcome = Quorum.outcome(members)
            #expect(outcome == (isWon ? .won : canWin ? .open : .lost))
            outcomes.insert("\(outcome)")
        }
        #expect(outcomes.count == 3)
    }

    @Test("entry sizes pack and sum like an array")
    func sizesAgainstArray() {
        let draw = random(9)
        for _ in 0..<50 {
            let base = draw(20)
            var sizes = EntrySizes(after: LogIndex(UInt64(base)))
            var array: [Int] = []
            var forgotten = 0
            for _ in 0..<3000 {
                array.append(1 + draw(50))
                sizes.append(array[array.count - 1])
                if draw(50) == 0 {
                    let through = draw(array.count + 1)
                    sizes.forget(through: LogIndex(UInt64(base + through)), keeping: 10)
                    forgotten = max(forgotten, min(through, max(0, array.count - 10)))
                }
                let first = draw(array.count + 2)
                let packed = sizes.pack(from: LogIndex(UInt64(base + first)), limit: 100)
                guard first > forgotten, first <= array.count else {
                    #expect(packed == nil)
                    continue
                }
                var bytes = array[first - 1]
                var last = first
                while last < array.count, bytes + array[last] <= 100 {
                    bytes += array[last]
                    last += 1
                }
                #expect(packed?.last == LogIndex(UInt64(base + last)))
                #expect(packed?.bytes == bytes)
                if first % 100 == 0 {
                    let after = sizes.bytes(after: LogIndex(UInt64(base + first)))
                    #expect(after == UInt64(array[first...].reduce(0, +)))
                }
            }
        }
    }
}
