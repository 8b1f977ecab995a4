// What must hold whatever happens, checked by one who sees everything: one log for all, one leader
// for each term, one manifest for each frontier, reads that show exactly a prefix of the log, and
// clients that are told the truth about their writes.
import Engine
import Replication

package final class ClusterOracle {
    package private(set) var violations: [String] = []
    package private(set) var model = ClusterModel()
    /// The committed log; the entry with index `i` is at `i - 1`.
    private var truth: [Position] = []
    private var leaders: [Term: MemberID] = [:]
    private var roots: [LogIndex: Digest128] = [:]
    private var lastApplied: [Int: LogIndex] = [:]
    private var lastFrontier: [Int: LogIndex] = [:]
    /// Of nodes that do not run: what their logs were.
    private var keptLogs: [Int: KeptLog] = [:]
    /// Write ids in the committed log, with the digest of their effects.
    private var written: [UInt64: (index: LogIndex, effects: Digest128)] = [:]
    /// Writes whose clients were told that they never happen.
    private var refused: Set<UInt64> = []

    package private(set) var frontierCount = 0
    /// Reads that failed with reason.
    package private(set) var failedReads = 0
    /// True where a test makes the log too short for somebody.
    package var allowsMembersPastRetention = false
    /// Members compute wrongly on purpose.
    package var allowsDivergence = false
    /// Nodes that a test gave a wrong manifest, until their next end: they have to find out.
    package var wrongStates: Set<Int> = []
    package private(set) var membersPastRetention: Set<MemberID> = []
    package var committed: LogIndex { LogIndex(UInt64(truth.count)) }
    package var terms: Int { leaders.count }
    package var hasViolations: Bool { !violations.isEmpty }

    package func violation(_ text: String) {
        if violations.count < 20 { violations.append(text) }
    }

    package func position(at index: LogIndex) -> Position? {
        index > .zero && index <= committed ? truth[Int(index.rawValue) - 1] : nil
    }

    /// R(index), if any node was seen with that frontier.
    package func root(at index: LogIndex) -> Digest128? { roots[index] }

    // MARK: Replicas

    package func noteLeader(_ member: MemberID, _ term: Term) {
        if let other = leaders[term], other != member {
            violation("members \(other) and \(member) both lead in term \(term)")
        }
        leaders[term] = member
    }

    package func notePastRetention(_ member: MemberID) {
        membersPastRetention.insert(member)
        if !allowsMembersPastRetention { violation("member \(member) needs what nobody keeps") }
    }

    package func noteEnd(_ process: SimulatedProcess) {
        keptLogs[process.place] = KeptLog(process.replica)
        wrongStates.remove(process.place)
    }

    /// The hard state of a node that does not run is lost.
    package func noteStateLost(_ place: Int) { keptLogs[place]?.hasForgottenCuts = true }

    package func noteStart(_ process: SimulatedProcess) {
        let kept = keptLogs.removeValue(forKey: process.place)
        // A peer's manifest may reach further than the own log did.
        if !process.tookManifest, let flaw = kept?.flaw(endingAt: process.replica.log.last) {
            violation("the log of node \(process.id) comes back wrong: it \(flaw)")
        }
        lastApplied[process.place] = nil
        lastFrontier[process.place] = nil
        observe(process)
    }

    /// After each turn.
    package func observe(_ process: SimulatedProcess) {
        let store = process.replica.store
        let position = store.appliedTail.position
        if position.index != lastApplied[process.place] {
            lastApplied[process.place] = position.index
            if position.index > committed { extend(to: position, process) }
            if position.index > .zero, self.position(at: position.index) != position {
                violation(
                    "node \(process.id) applied another entry at \(position.index) than others")
            }
        }
        if store.healer.counters.divergences > 0, !allowsDivergence {
            violation("node \(process.id) finds that its tables differ from others'")
        }
        if store.frontier != lastFrontier[process.place] {
            lastFrontier[process.place] = store.frontier
            compareRoot(process)
        }
    }

    private func compareRoot(_ process: SimulatedProcess) {
        guard !wrongStates.contains(process.place) else { return }
        let manifest = process.replica.store.manifest
        let frontier = manifest.frontier
        let root = manifest.manifest.stateRoot()
        guard let known = roots[frontier] else {
            roots[frontier] = root
            frontierCount += 1
            return
        }
        if known != root {
            violation("node \(process.id) has another manifest at frontier \(frontier)")
        }
    }

    // MARK: The committed log

    /// The process applied entries that nobody had applied before: they are the truth from now on.
    private func extend(to position: Position, _ process: SimulatedProcess) {
        var found: [Entry] = []
        var wanted = position
        while wanted.index > committed {
            guard let entry = process.cluster.entry(at: wanted, by: process) else {
                return violation(
                    "entry \(wanted.index), applied by node \(process.id), is nowhere")
            }
            found.append(entry)
            wanted = Position(
                term: .zero, index: entry.index - 1, checksum: entry.header.previous)
        }
        if let last = truth.last, last.checksum != wanted.checksum {
            return violation("node \(process.id) applied another entry at \(wanted.index)")
        }
        for entry in found.reversed() {
            truth.append(entry.position)
            if entry.header.kind == .write { fold(entry) }
        }
    }

    private func fold(_ entry: Entry) {
        entry.withPayload { payload in
            do throws(DecodingError) {
                var reader = try WritePayloadReader(payload)
                var splitter = BatchSplitter()
                while let effect = try reader.next() {
                    apply(effect, at: entry.index)
                    if let (id, digest) = splitter.take(effect) {
                        note(id, digest, at: entry.index)
                    }
                }
            } catch {
                violation("entry \(entry.index) is malformed: \(error)")
            }
        }
    }

    private func apply(_ effect: Effect, at index: LogIndex) {
        switch effect {
        case .put(let key, let value):
            model.put([UInt8](key), .init(index: index, value: [UInt8](value)))
        case .expiringPut(let key, let stored):
            let expiry = UInt64(
                littleEndian: stored.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
            model.put(
                [UInt8](key),
                .init(index: index, value: [UInt8](stored.dropFirst(8)), expiry: expiry))
        case .delete(let key): model.put([UInt8](key), .init(index: index, value: nil))
        case .singleDelete(let key): model.put([UInt8](key), .init(index: index, value: nil))
        case .merge: violation("nobody writes merges here")
        case .deleteRange(let start, let end):
            model.deleteRange([UInt8](start), end.map { [UInt8]($0) }, at: index)
        }
    }

    private func note(_ id: UInt64, _ digest: Digest128, at index: LogIndex) {
        if written[id] != nil { violation("write \(id) is in the log twice") }
        if refused.contains(id) { violation("write \(id) was refused and is in the log") }
        written[id] = (index, digest)
    }

    // MARK: Clients

    /// What a client was told about its write.
    package func judge(_ outcome: ProposalOutcome, of write: ProposedWrite) {
        switch outcome {
        case .applied(let position):
            guard self.position(at: position.index) == position,
                let found = written[write.id], found.index == position.index
            else { return violation("write \(write.id) was acknowledged and is not in the log") }
            if found.effects != write.digest {
                violation("write \(write.id) is in the log with other effects")
            }
        case .notApplied:
            refused.insert(write.id)
            if written[write.id] != nil {
                violation("write \(write.id) was refused and is in the log")
            }
        case .unknown: break
        }
    }

    /// What a replica answers for one key from the state that it has applied.
    package func check(
        _ key: [UInt8], of process: SimulatedProcess, now wanted: ClockMilliseconds,
        _ what: String
    ) {
        var store = process.replica.store
        var now = clock(of: store.pin().view, wanted)
        let value: [UInt8]?
        process.answeredFrom = nil
        do throws(EngineError) {
            value = try store.get(key, now: now, io: .blocking)?.value
        } catch {
            return judgeRead(error, process)
        }
        if let other = process.answeredFrom {
            store = other
            now = clock(of: other.pin().view, now)
            process.answeredFrom = nil
        }
        let index = store.applied
        let expected = model.get(key, at: index, now: now)
        if value != expected {
            violation(
                "\(what) of \(text(key)) at node \(process.id), index \(index), gives "
                    + "\(text(value)) instead of \(text(expected))")
        }
    }

    /// Everything that a replica shows of `span`, forward or in reverse.
    package func checkScan(
        _ process: SimulatedProcess, _ span: KeySpan = .everything, reverse: Bool
    ) {
        let store = process.replica.store
        let now = clock(of: store.pin().view, process.wallMilliseconds)
        let index = store.applied
        do throws(EngineError) {
            let found = try store.scan(
                span, reverse: reverse, limit: .max, limitBytes: .max, now: now)
            compare(
                found.map { ($0.key, $0.value.value) }, of: span, at: index, now: now,
                reverse: reverse, "node \(process.id)")
        } catch {
            judgeScan(error, process, "a scan at")
        }
    }

    // MARK: Reads that fail

    /// A node that is cut off with a damaged block, or whose peers do not have it either, says so:
    /// a read may fail then, and only then.
    package func judgeScan(_ error: EngineError, _ process: SimulatedProcess, _ what: String) {
        if process.unanswered.explainScan(error, now: process.wallMilliseconds) {
            failedReads += 1
        } else {
            violation("\(what) node \(process.id) fails: \(error)")
        }
    }

    package func judgeRead(_ error: EngineError, _ process: SimulatedProcess) {
        if process.unanswered.explainRead(error, now: process.wallMilliseconds) {
            failedReads += 1
        } else {
            violation("node \(process.id) cannot read: \(error)")
        }
    }

    package func compare(
        _ found: [(key: [UInt8], value: [UInt8])], of span: KeySpan, at index: LogIndex,
        now: ClockMilliseconds, reverse: Bool, _ who: String
    ) {
        var expected = model.content(of: span, at: index, now: now)
        if reverse { expected.reverse() }
        for (left, right) in zip(found, expected) where left != right {
            return violation(
                "\(who), index \(index): a scan gives \(text(left.key)) = \(text(left.value)) "
                    + "instead of \(text(right.key)) = \(text(right.value))")
        }
        if found.count != expected.count {
            violation(
                "\(who), index \(index): a scan gives \(found.count) keys, not \(expected.count)")
        }
    }

    /// No read of a view is at an earlier clock than the jobs that made its tables.
    package func clock(of view: ReadView, _ wanted: ClockMilliseconds) -> ClockMilliseconds {
        max(wanted, view.clock)
    }

    private func text(_ bytes: [UInt8]?) -> String {
        bytes.map { String(decoding: $0.prefix(40), as: UTF8.self) } ?? "nothing"
    }
}
