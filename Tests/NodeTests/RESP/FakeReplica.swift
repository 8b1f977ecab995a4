// A replica under the test's thumb: a sorted map for a store, and leadership, commits,
// confirmations and forwards that happen when the test says so. Keeps the promises of
// `ReplicaService`.
import Engine
import Node
import Replication
import Synchronization

/// A store that a test fills, damages and makes cold.
final class FakeReader: KeyValueReader {
    struct State: Sendable {
        var values: [[UInt8]: LiveValue] = [:]
        var cold: Set<[UInt8]> = []
        var damaged: Set<[UInt8]> = []
        var reads = 0
        /// Happens after the next read: what another thread applies in between.
        var afterRead: (@Sendable (inout [[UInt8]: LiveValue]) -> Void)?
    }

    let state = Mutex(State())

    func get(
        _ key: [UInt8], now: ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        try get(key, from: nil, now: now, io: io)
    }

    /// From the values that were pinned, or from what is there now.
    func get(
        _ key: [UInt8], from pinned: [[UInt8]: LiveValue]?, now: ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        let result = state.withLock { state -> Result<LiveValue?, EngineError> in
            state.reads += 1
            defer {
                state.afterRead?(&state.values)
                state.afterRead = nil
            }
            if state.damaged.contains(key) { return .failure(FakeReader.damage) }
            if io == .cacheOnly, state.cold.contains(key) { return .failure(.wouldBlock) }
            return .success((pinned ?? state.values)[key].flatMap { FakeReader.live($0, now) })
        }
        return try result.get()
    }

    func scan(
        _ span: KeySpan, reverse: Bool, limit: Int, limitBytes: Int, now: ClockMilliseconds
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)] {
        FakeReader.scan(
            state.withLock { $0.values }, span, reverse: reverse, limit: limit,
            limitBytes: limitBytes, now: now)
    }

    func pinned() -> any KeyValueReader {
        FakePin(reader: self, values: state.withLock { $0.values })
    }

    static func scan(
        _ values: [[UInt8]: LiveValue], _ span: KeySpan, reverse: Bool, limit: Int,
        limitBytes: Int, now: ClockMilliseconds
    ) -> [(key: [UInt8], value: LiveValue)] {
        var pairs = values.filter { span.contains($0.key) && FakeReader.live($0.value, now) != nil }
            .map { (key: $0.key, value: $0.value) }
            .sorted { $0.key.isKeyBefore($1.key) }
        if reverse { pairs.reverse() }
        var bytes = 0
        var result: [(key: [UInt8], value: LiveValue)] = []
        for pair in pairs.prefix(limit) where bytes < limitBytes {
            bytes += pair.key.count + pair.value.value.count
            result.append(pair)
        }
        return result
    }

    func set(_ key: String, _ value: String, expiry: ClockMilliseconds? = nil) {
        state.withLock { $0.values[bytes(key)] = LiveValue(value: bytes(value), expiry: expiry) }
    }

    func value(_ key: String) -> String? {
        state.withLock { $0.values[bytes(key)] }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    func apply(_ batch: WriteBatch) throws {
        let payload = batch.payload(horizonDistance: 0)
        try payload.withUnsafeBytes { raw in
            var reader = try WritePayloadReader(raw)
            while let effect = try reader.next() {
                state.withLock { FakeReader.apply(effect, to: &$0.values) }
            }
        }
    }

    private static func apply(_ effect: Effect, to values: inout [[UInt8]: LiveValue]) {
        switch effect {
        case .put(let key, let value):
            values[[UInt8](key)] = LiveValue(value: [UInt8](value))
        case .expiringPut(let key, let stored):
            let expiry = UInt64(littleEndian: stored.loadUnaligned(as: UInt64.self))
            values[[UInt8](key)] = LiveValue(value: [UInt8](stored[8...]), expiry: expiry)
        case .delete(let key), .singleDelete(let key):
            values.removeValue(forKey: [UInt8](key))
        case .merge: break
        case .deleteRange(let start, let end):
            let span = KeySpan(start: [UInt8](start), end: end.map { [UInt8]($0) })
            values = values.filter { !span.contains($0.key) }
        }
    }

    private static func live(_ value: LiveValue, _ now: ClockMilliseconds) -> LiveValue? {
        value.expiry.map { $0 > now } ?? true ? value : nil
    }

    static let damage = EngineError.blockLost(
        BlockAddress(
            table: TableID(index: LogIndex(9), kind: .flush, ordinal: 0),
            ordinal: BlockOrdinal(3)), reason: "nobody has it")
}

private final class FakePin: KeyValueReader {
    let reader: FakeReader
    let values: [[UInt8]: LiveValue]

    init(reader: FakeReader, values: [[UInt8]: LiveValue]) {
        self.reader = reader
        self.values = values
    }

    func get(
        _ key: [UInt8], now: ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        try reader.get(key, from: values, now: now, io: io)
    }

    func scan(
        _ span: KeySpan, reverse: Bool, limit: Int, limitBytes: Int, now: ClockMilliseconds
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)] {
        FakeReader.scan(
            values, span, reverse: reverse, limit: limit, limitBytes: limitBytes, now: now)
    }

    func pinned() -> any KeyValueReader { self }
}

final class FakeReplica: ReplicaService {
    struct Proposal: Sendable {
        var number: Int
        var batch: WriteBatch
        var term: Term
        var completion: @Sendable (ProposalOutcome) -> Void
    }

    struct Forward: Sendable {
        var request: [UInt8]
        var completion: @Sendable (ForwardOutcome) -> Void
    }

    typealias Confirmation = @Sendable (Result<ReadPermit, ServiceRefusal>) -> Void
    typealias Handler = @Sendable ([UInt8], @escaping @Sendable ([UInt8]) -> Void) -> Void

    struct State {
        var term: Term? = Term(1)
        var clock: ClockMilliseconds = 1_000_000
        var index: UInt64 = 0
        var proposals: [Proposal] = []
        var proposalCount = 0
        var isBusy = false
        /// So many proposals are refused for memory.
        var busyProposals = 0
        var commitsAtOnce = true
        var reads: [Confirmation] = []
        var readCount = 0
        var readAnswer: Result<Void, ServiceRefusal>? = .success(())
        var bounded: Result<Void, ServiceRefusal> = .success(())
        var forwards: [Forward] = []
        var forwardCount = 0
        /// Where forwards go; nil: they are held for the test to answer.
        var leader: FakeReplica?
        var handler: Handler?
        var waits:
            [(
                index: LogIndex, count: Int, cancellation: CancellationFlag,
                completion: @Sendable (Int) -> Void
            )] = []
    }

    let store: FakeReader
    let state = Mutex(State())

    init(store: FakeReader = FakeReader(), term: Term? = Term(1)) {
        self.store = store
        state.withLock { $0.term = term }
    }

    var reader: any KeyValueReader { store }
    var evaluatingTerm: Term? { state.withLock { $0.term } }
    var clock: ClockMilliseconds { state.withLock { $0.clock } }

    // MARK: The service

    func propose(
        _ batch: WriteBatch, term: Term, completion: @escaping @Sendable (ProposalOutcome) -> Void
    ) {
        let refusal = state.withLock { state -> String? in
            state.proposalCount += 1
            let wasBusy = state.busyProposals > 0
            state.busyProposals -= state.busyProposals > 0 ? 1 : 0
            if state.isBusy || wasBusy { return "busy: memory is full" }
            if state.term != term { return "this member does not lead in term \(term)" }
            state.proposals.append(
                Proposal(
                    number: state.proposalCount, batch: batch, term: term, completion: completion))
            return nil
        }
        if let refusal { return completion(.notApplied(reason: refusal)) }
        if state.withLock({ $0.commitsAtOnce }) { commit() }
    }

    func linearizableRead(
        completion: @escaping @Sendable (Result<ReadPermit, ServiceRefusal>) -> Void
    ) {
        let answer = state.withLock { state -> Result<Void, ServiceRefusal>? in
            state.readCount += 1
            if state.readAnswer == nil { state.reads.append(completion) }
            return state.readAnswer
        }
        if let answer { completion(answer.map { ReadPermit(clock: clock) }) }
    }

    func boundedRead(staleness: UInt64) -> Result<ReadPermit, ServiceRefusal> {
        state.withLock { $0.bounded }.map { ReadPermit(clock: clock) }
    }

    func forward(_ request: [UInt8], completion: @escaping @Sendable (ForwardOutcome) -> Void) {
        let leader = state.withLock { state -> FakeReplica? in
            state.forwardCount += 1
            if state.leader == nil {
                state.forwards.append(Forward(request: request, completion: completion))
            }
            return state.leader
        }
        leader?.state.withLock { $0.handler }?(request) { completion(.answered($0)) }
    }

    func setForwardHandler(_ handler: @escaping Handler) {
        state.withLock { $0.handler = handler }
    }

    func wait(
        for index: LogIndex, count: Int, timeout: UInt64, cancellation: CancellationFlag,
        completion: @escaping @Sendable (Int) -> Void
    ) {
        state.withLock { $0.waits.append((index, count, cancellation, completion)) }
    }

    func status() -> ReplicaStatus {
        let (term, index) = state.withLock { ($0.term, LogIndex($0.index)) }
        return ReplicaStatus(
            node: MemberID(1), role: term == nil ? "follower" : "leader", term: term ?? Term(1),
            leader: MemberID(term == nil ? 2 : 1), commit: index, durable: index, applied: index,
            frontier: .zero, stateRoot: .zero,
            members: (1...3).map {
                MemberStatus(id: MemberID($0), role: "voter", match: index, lag: 0)
            })
    }

    // MARK: The test's levers

    func set(_ change: (inout sending State) -> Void) { state.withLock { change(&$0) } }

    /// Applies the oldest `count` proposals (all of them by default) and says so.
    func commit(_ count: Int = .max) {
        for _ in 0..<count {
            let next = state.withLock { state -> (Proposal, LogIndex)? in
                guard !state.proposals.isEmpty else { return nil }
                state.index += 1
                return (state.proposals.removeFirst(), LogIndex(state.index))
            }
            guard let (proposal, index) = next else { return }
            try? store.apply(proposal.batch)
            proposal.completion(
                .applied(Position(term: proposal.term, index: index, checksum: .zero)))
        }
    }

    /// Ends all proposals without applying them.
    func lose(_ outcome: ProposalOutcome) {
        let proposals = state.withLock { state in
            defer { state.proposals = [] }
            return state.proposals
        }
        for proposal in proposals { proposal.completion(outcome) }
    }

    func confirmReads(_ result: Result<Void, ServiceRefusal> = .success(())) {
        let reads = state.withLock { state in
            defer { state.reads = [] }
            return state.reads
        }
        for read in reads { read(result.map { ReadPermit(clock: clock) }) }
    }

    func takeForwards() -> [Forward] {
        state.withLock { state in
            defer { state.forwards = [] }
            return state.forwards
        }
    }
}

final class FakeAdmin: AdminInformation {
    func statusJSON() -> String { #"{"node":1}"# }
    func tablesJSON() -> String { "[]" }
    func ledgerJSON(limit: Int) -> String { "[\(limit)]" }
    func startScrub() throws(EngineError) { throw .busy(reason: "a scrub is running") }
    func scrubJSON() -> String { #"{"state":"running"}"# }
    func infoRows(_ section: String) -> [InfoRow] {
        section == "server" ? [InfoRow("tcp_port", "7379")] : []
    }
    func settings() -> [InfoRow] { [InfoRow("log.sync", "always"), InfoRow("save", "never")] }
    func clientAddress(of member: MemberID) -> (host: String, port: Int)? {
        ("10.0.0.\(member)", 7379)
    }
}

func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

/// SplitMix64: the same numbers for the same seed everywhere.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
