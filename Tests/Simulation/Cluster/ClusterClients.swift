// Clients of the simulated cluster. Writers propose batches of every kind of effect on whoever says
// that it leads, and remember what they were told. Readers ask any node for a linearizable read and
// hold it to what was acknowledged to anybody before they asked.
import Engine
import Replication

/// A batch on its way. The first effect of each batch is the writer's marker, which carries the id.
package struct ProposedWrite {
    package var id: UInt64
    package var digest: Digest128
    package var process: SimulatedProcess
}

/// Finds the batches inside an entry by their markers.
package struct BatchSplitter {
    package static let markerPrefix = [UInt8]("~".utf8)
    private var left = 0
    private var id: UInt64 = 0
    private var bytes: [UInt8] = []

    /// A marker's value: the id, and how many effects follow.
    package static func markerValue(_ id: UInt64, effects: Int) -> [UInt8] {
        Array("\(id) \(effects)".utf8)
    }

    /// The id and the digest of a batch that is complete with this effect.
    package mutating func take(_ effect: Effect) -> (UInt64, Digest128)? {
        if left == 0 {
            guard case .put(let key, let value) = effect, key.first == 0x7e else { return nil }
            let words = String(decoding: value, as: UTF8.self).split(separator: " ")
            guard words.count == 2, let id = UInt64(words[0]), let count = Int(words[1]) else {
                return nil
            }
            self.id = id
            left = count + 1
            bytes = []
        }
        add(effect)
        left -= 1
        return left == 0 ? (id, Digest128(of: bytes)) : nil
    }

    private mutating func add(_ effect: Effect) {
        switch effect {
        case .put(let key, let value): bytes += [1] + key + value
        case .expiringPut(let key, let stored): bytes += [2] + key + stored
        case .delete(let key): bytes += [3] + key
        case .merge(let key, let stored): bytes += [5] + key + stored
        case .singleDelete(let key): bytes += [6] + key
        case .deleteRange(let start, let end):
            bytes += [4] + start + (end.map { [UInt8]($0) } ?? [])
        }
    }

    package static func digest(of batch: WriteBatch) -> Digest128? {
        let payload = batch.payload(horizonDistance: 0)
        return payload.withUnsafeBytes { buffer -> Digest128? in
            var splitter = BatchSplitter()
            guard var reader = try? WritePayloadReader(buffer) else { return nil }
            while let effect = try? reader.next() {
                if let (_, digest) = splitter.take(effect) { return digest }
            }
            return nil
        }
    }
}

package final class ClusterClients: @unchecked Sendable {
    // Unchecked: everything happens on the test's one thread.
    private unowned let cluster: SimulatedCluster
    private var random: SeededRandom
    /// Has its own numbers, so that all else of a seed stays as it was.
    private var ownRandom: SeededRandom
    package var keyCount = 60
    package var valueBytesMax = 300
    private var nextID: UInt64 = 1
    private var open: [UInt64: ProposedWrite] = [:]
    /// Answers that came in a turn; looked at after it.
    private var answers: [(UInt64, ProposalOutcome)] = []
    private var permits: [(ReadRequest, Result<ReadPermit, ServiceRefusal>)] = []
    /// Every state from here on may have been seen by somebody.
    package private(set) var floor = LogIndex.zero
    /// When the floor rose, and to what, as far back as a bounded read may look.
    private var floors: [(time: UInt64, floor: LogIndex)] = []
    private var isPaused = true
    private var epoch = 0
    private var pinned: [PinnedView] = []

    package private(set) var applied = 0
    package private(set) var refused = 0
    package private(set) var unknown = 0
    package private(set) var reads = 0
    /// Bounded ones that were permitted.
    package private(set) var bounded = 0
    private static let stalenessMax: UInt64 = 5_000

    private struct ReadRequest {
        var key: [UInt8]
        var process: SimulatedProcess
        /// What this read must see, since somebody was told of it before the read began.
        var floor: LogIndex
    }

    private struct PinnedView {
        var view: ReadView
        var sequence: SequenceNumber
        var index: LogIndex
        var wall: ClockMilliseconds
        var place: Int
    }

    package init(_ cluster: SimulatedCluster, random: SeededRandom) {
        self.cluster = cluster
        self.random = random
        ownRandom = SeededRandom(seed: cluster.settings.seed &+ 0xb0_05ed)
    }

    // MARK: Load

    /// Starts `writers` and `readers` that go on until `pause`.
    package func start(writers: Int, readers: Int, pauseMilliseconds: Int = 30) {
        isPaused = false
        epoch += 1
        let epoch = self.epoch
        for _ in 0..<writers { again(epoch, pauseMilliseconds) { $0.write() } }
        for _ in 0..<readers { again(epoch, 2 * pauseMilliseconds) { $0.read() } }
        again(epoch, 300) { $0.look() }
    }

    /// No new work, and nothing pinned: the nodes come to rest.
    package func pause() {
        isPaused = true
        pinned.removeAll()
    }

    private func again(_ epoch: Int, _ pause: Int, _ body: @escaping (ClusterClients) -> Void) {
        cluster.perform(after: UInt64(1 + random.below(pause))) { [unowned self] in
            guard !isPaused, epoch == self.epoch else { return }
            body(self)
            again(epoch, pause, body)
        }
    }

    private func key(_ number: Int) -> [UInt8] { Array("k\(1000 + number)".utf8) }

    // MARK: Writing

    /// Proposes a random batch on a leader, if there is one.
    package func write() {
        let leaders = cluster.leaders
        guard !leaders.isEmpty, open.count < 64 else { return }
        let process = leaders[random.below(leaders.count)]
        propose(makeBatch(effects: 1 + random.below(4)), on: process)
    }

    /// Proposes one put on `process`, whatever it thinks of itself.
    package func put(_ number: Int, valueBytes: Int, on process: SimulatedProcess) {
        var batch = WriteBatch()
        mark(&batch, effects: 1)
        batch.put(key(number), value(bytes: valueBytes))
        propose(batch, on: process)
    }

    private func propose(_ batch: WriteBatch, on process: SimulatedProcess) {
        guard let term = process.replica.evaluatingTerm,
            let digest = BatchSplitter.digest(of: batch)
        else { return }
        let id = nextID - 1
        open[id] = ProposedWrite(id: id, digest: digest, process: process)
        process.replica.propose(batch, term: term) { [unowned self] outcome in
            answers.append((id, outcome))
        }
    }

    private func mark(_ batch: inout WriteBatch, effects: Int) {
        let id = nextID
        nextID += 1
        batch.put(
            BatchSplitter.markerPrefix + Array("\(random.below(8))".utf8),
            BatchSplitter.markerValue(id, effects: effects))
    }

    private func makeBatch(effects: Int) -> WriteBatch {
        var batch = WriteBatch()
        mark(&batch, effects: effects)
        for _ in 0..<effects {
            let key = key(random.below(keyCount))
            switch random.below(20) {
            case 0..<12: batch.put(key, value(bytes: random.below(valueBytesMax)))
            case 12..<15:
                let expiry = cluster.wall(of: 0) + UInt64(random.below(6_000))
                batch.put(key, value(bytes: random.below(50)), expiry: expiry)
            case 15..<19: batch.delete(key)
            default:
                let start = random.below(keyCount)
                let end = start + 1 + random.below(8)
                batch.deleteRange(
                    self.key(start), end >= keyCount ? Array("k9".utf8) : self.key(end))
            }
        }
        return batch
    }

    /// Unlike every other value; compressible in part.
    private func value(bytes: Int) -> [UInt8] {
        var value = Array("v\(nextID)-\(random.below(1 << 30))-".utf8)
        value += Array(repeating: UInt8(97 + random.below(26)), count: bytes / 2)
        for _ in 0..<(bytes / 2) { value.append(UInt8(32 + random.below(90))) }
        return value
    }

    /// Its clients never get an answer.
    package func processEnded(_ process: SimulatedProcess) {
        for id in open.keys.sorted() where open[id]?.process === process {
            open[id] = nil
            unknown += 1
        }
        pinned.removeAll { $0.place == process.place }
    }

    // MARK: Reading

    package func read() {
        let running = cluster.running
        guard !running.isEmpty else { return }
        read(at: running[random.below(running.count)])
    }

    package func read(at process: SimulatedProcess) {
        let request = ReadRequest(
            key: key(random.below(keyCount)), process: process, floor: floor)
        process.replica.linearizableRead { [unowned self] result in
            permits.append((request, result))
        }
    }

    /// A read that any node answers at once, if what it has is new enough.
    private func readBounded() {
        let running = cluster.running
        let process = running[ownRandom.below(running.count)]
        let staleness = [100, 400, 1_500, ClusterClients.stalenessMax][ownRandom.below(4)]
        guard case .success(let permit) = process.replica.boundedRead(staleness: staleness) else {
            return
        }
        bounded += 1
        // Clocks here never run slower than time, but they round it, at both ends.
        let seen = cluster.now - min(cluster.now, staleness + 2)
        let wanted = floors.last { $0.time < seen }?.floor ?? .zero
        let index = process.replica.store.applied
        if index < wanted {
            cluster.oracle.violation(
                "a read at node \(process.id) that may be \(staleness) ms old sees index \(index); "
                    + "\(wanted) was acknowledged before that")
        }
        cluster.oracle.check(
            key(ownRandom.below(keyCount)), of: process, now: permit.clock,
            "a bounded read")
    }

    /// Looks at any node's state, whatever its age, and at views that were pinned earlier.
    private func look() {
        let running = cluster.running
        guard !running.isEmpty else { return }
        let process = running[random.below(running.count)]
        readBounded()
        cluster.oracle.checkScan(process, someSpan(), reverse: random.oneIn(2))
        for _ in 0..<5 {
            cluster.oracle.check(
                key(random.below(keyCount)), of: process, now: process.wallMilliseconds,
                "a local read")
        }
        if pinned.count == 3 { checkPinned(pinned.removeFirst()) }
        let (view, sequence) = process.replica.store.pin()
        pinned.append(
            PinnedView(
                view: view, sequence: sequence, index: process.replica.store.applied,
                wall: process.wallMilliseconds, place: process.place))
    }

    /// Everything now and then; mostly a part of it, since a scan costs as much as many events.
    private func someSpan() -> KeySpan {
        guard !ownRandom.oneIn(8) else { return .everything }
        let start = ownRandom.below(keyCount)
        let end = start + 1 + ownRandom.below(max(1, keyCount / 4))
        // Behind the last key stand the writers' marks.
        return KeySpan(start: key(start), end: end < keyCount ? key(end) : nil)
    }

    private func checkPinned(_ pin: PinnedView) {
        let span = someSpan()
        do throws(EngineError) {
            let found = try pin.view.scan(
                span, reverse: false, limit: .max, at: pin.sequence, now: pin.wall)
            cluster.oracle.compare(
                found.map { ($0.key, $0.value.value) }, of: span, at: pin.index,
                now: cluster.oracle.clock(of: pin.view, pin.wall),
                reverse: false, "a snapshot of node \(pin.place + 1)")
        } catch {
            guard let process = cluster.process(pin.place) else { return }
            cluster.oracle.judgeScan(error, process, "a snapshot of")
        }
    }

    // MARK: Answers

    /// Takes what the last turn answered.
    package func settle() {
        for (id, outcome) in answers {
            guard let write = open.removeValue(forKey: id) else { continue }
            cluster.oracle.judge(outcome, of: write)
            switch outcome {
            case .applied(let position):
                applied += 1
                raiseFloor(to: position.index)
            case .notApplied: refused += 1
            case .unknown: unknown += 1
            }
        }
        answers.removeAll(keepingCapacity: true)
        for (request, result) in permits { finish(request, result) }
        permits.removeAll(keepingCapacity: true)
    }

    private func finish(_ request: ReadRequest, _ result: Result<ReadPermit, ServiceRefusal>) {
        guard request.process.isAlive, case .success(let permit) = result else { return }
        reads += 1
        let index = request.process.replica.store.applied
        if index < request.floor {
            cluster.oracle.violation(
                "a linearizable read at node \(request.process.id) sees index \(index); "
                    + "\(request.floor) was acknowledged before it")
        }
        cluster.oracle.check(
            request.key, of: request.process, now: permit.clock, "a linearizable read")
        raiseFloor(to: index)
    }

    private func raiseFloor(to index: LogIndex) {
        guard index > floor else { return }
        floor = index
        let oldest = cluster.now - min(cluster.now, ClusterClients.stalenessMax + 1_000)
        // The last of those that are old enough is still the floor of everything before the next.
        while floors.count > 1, floors[1].time < oldest { floors.removeFirst() }
        floors.append((cluster.now, index))
    }
}
