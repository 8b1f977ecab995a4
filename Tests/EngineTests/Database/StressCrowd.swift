// Threads that use one database at once in all ways that it has, until one of them closes it.
import Engine
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class StressCrowd: Sendable {
    private let database: Database
    private let groups: [StressGroup]
    private let writes: Int
    private let copies: String
    let failures = Notes()
    private let done = Atomic<Int>(0)

    /// Where a copy of the database goes.
    init(_ database: Database, _ groups: [StressGroup], writes: Int, copies: String) {
        self.database = database
        self.groups = groups
        self.writes = writes
        self.copies = copies
    }

    /// Reads that were answered.
    var reads: Int { done.load(ordering: .relaxed) }

    func run(seed: UInt64) {
        var threads = groups.map { group in
            startThread { self.write(group) }
        }
        threads += (0..<3).map { number in
            startThread { self.read(seed &* 16 &+ number) }
        }
        threads.append(startThread { self.load() })
        threads.append(startThread { self.maintain() })
        threads.append(startThread { self.follow() })
        for thread in threads { pthread_join(thread, nil) }
    }

    /// Does `body` up to so often. The close of the database ends it, being busy does not.
    private func repeatedly(_ count: Int, _ what: String, _ body: (Int) throws -> Void) {
        for number in 0..<count {
            do { try body(number) } catch {
                switch error {
                case EngineError.closed: return
                case EngineError.busy: continue
                case let error as IngestError:
                    if case .closed = error.cause { return }
                    if case .busy = error.cause { continue }
                default: break
                }
                failures.add("\(what): \(error)")
                return
            }
        }
    }

    private func expect(_ fault: String?) {
        if let fault { failures.add(fault) }
    }

    // MARK: writers

    /// The first writer closes the database beside all others, when it is done and enough was read.
    private func write(_ group: StressGroup) {
        let isFirst = group === groups[0]
        repeatedly(isFirst ? writes : 4 * writes, "a writer") { _ in try group.write(database) }
        if isFirst {
            while reads <= writes, failures.all.isEmpty { sched_yield() }
            do { try database.close() } catch { failures.add("close: \(error)") }
        }
    }

    private static let loads: UInt8 = 0xf0

    /// Each ingest is one entry, and so is seen whole.
    private func load() {
        repeatedly(writes / 4, "an ingest") { round in
            let pairs = (0..<60).map { number in
                (
                    key: [StressCrowd.loads, UInt8(number)],
                    value: [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 40)
                )
            }
            try database.ingest(pairs)
        }
    }

    private func maintain() {
        repeatedly(writes / 4, "maintenance") { number in
            switch number % 8 {
            case 1, 4: try database.flush()
            case 3: try database.compact(KeySpan(start: [8], end: [20]))
            case 5: try database.awaitIdle()
            case 7: try database.compactAll()
            default:
                _ = database.memoryUse
                _ = database.storageUse
                if database.tables().isEmpty { sched_yield() }
            }
            if number == 10 { try database.checkpoint(to: copies) }
        }
    }

    /// Follows the log.
    private func follow() {
        var stream: ChangeStream?
        repeatedly(writes, "the stream of changes") { _ in
            do {
                let current = try stream ?? database.changes(after: database.sequence)
                stream = current
                var last = current.sequence
                for change in try current.take(maxBytes: 4096) {
                    if change.sequence != last + 1 {
                        failures.add("\(change.sequence) comes after \(last)")
                    }
                    last = change.sequence
                }
            } catch EngineError.changesGone { stream = nil }
        }
    }

    // MARK: readers

    private func read(_ seed: UInt64) {
        var random = SeededRandom(seed: seed)
        repeatedly(12 * writes, "a reader") { _ in
            let group = groups[random.below(groups.count)]
            let slot = random.below(StressGroup.slots)
            switch random.below(20) {
            case 0..<6: try get(group, slot, random.below(StressGroup.places))
            case 6..<11: try getTogether(group, slot)
            case 11, 12: try useSnapshot(group, slot)
            case 13, 14: try scan(group, slot, reverse: random.oneIn(2))
            case 15: try scanAll(reverse: random.oneIn(2))
            case 16: try useTransaction(group, slot)
            case 17: try readThePast(group, slot)
            case 18: try scanLoads()
            default: try askPrefix(group, slot)
            }
            done.add(1, ordering: .relaxed)
        }
    }

    private func get(_ group: StressGroup, _ slot: Int, _ place: Int) throws {
        let lowest = group.lowest
        let found = try database.get(group.key(slot, place))
        let same = found.map { [UInt8]($0.prefix(8)) }
        guard slot < StressGroup.firstCleared else { return }
        let due = lowest - (lowest + StressGroup.slots - slot) % StressGroup.slots
        if due > 0, same.map({ StressGroup.number($0) < due }) ?? true {
            failures.add("a get of slot \(slot) does not show \(due)")
        }
    }

    private func getTogether(_ group: StressGroup, _ slot: Int) throws {
        let lowest = group.lowest
        let found = try database.multiGet(group.keys(slot) + [group.sum, group.toggle])
        let places = StressGroup.places
        expect(group.fault(of: Array(found.prefix(places)), in: slot, lowest: lowest))
        expect(
            group.fault(ofSum: found[places], toggle: found[places + 1], lowest: lowest))
    }

    private func useSnapshot(_ group: StressGroup, _ slot: Int) throws {
        let lowest = group.lowest
        let snapshot = database.snapshot()
        let keys = group.keys(slot) + [group.sum, group.toggle]
        let found = try snapshot.multiGet(keys)
        let places = StressGroup.places
        expect(group.fault(of: Array(found.prefix(places)), in: slot, lowest: lowest))
        expect(group.fault(ofSum: found[places], toggle: found[places + 1], lowest: lowest))
        sched_yield()
        let again = try keys.map { try snapshot.get($0) }
        if again != found { failures.add("a snapshot changed") }
    }

    private func scan(_ group: StressGroup, _ slot: Int, reverse: Bool) throws {
        let lowest = group.lowest
        var pairs = try database.scan(.prefix([UInt8(slot), group.name]), reverse: reverse)
        if reverse { pairs.reverse() }
        guard pairs.isEmpty || pairs.map(\.key) == group.keys(slot) else {
            failures.add("a scan of a slot finds \(pairs.count) keys")
            return
        }
        let values = pairs.map(\.value.value)
        expect(
            group.fault(
                of: values.isEmpty ? [nil] : values, in: slot, lowest: lowest))
    }

    private func scanAll(reverse: Bool) throws {
        let lowest = groups.map(\.lowest)
        let pairs = try database.scan(.everything, reverse: reverse)
        let found = Dictionary(uniqueKeysWithValues: pairs.map { ($0.key, $0.value.value) })
        for (group, lowest) in zip(groups, lowest) {
            for slot in 0..<StressGroup.slots {
                expect(
                    group.fault(of: group.keys(slot).map { found[$0] }, in: slot, lowest: lowest))
            }
            expect(
                group.fault(ofSum: found[group.sum], toggle: found[group.toggle], lowest: lowest))
        }
    }

    private func useTransaction(_ group: StressGroup, _ slot: Int) throws {
        let lowest = group.lowest
        let transaction = try database.begin()
        let pairs = try transaction.scan(.prefix([UInt8(slot), group.name]))
        let values = try group.keys(slot).map { try transaction.get($0) }
        expect(group.fault(of: values, in: slot, lowest: lowest))
        if pairs.map(\.value) != values.compactMap({ $0 }) {
            failures.add("a scan and the gets of one transaction differ")
        }
        try transaction.commit()
    }

    private func readThePast(_ group: StressGroup, _ slot: Int) throws {
        let lowest = group.lowest
        let sequence = database.sequence
        do {
            let past = try database.snapshot(asOf: sequence)
            expect(
                group.fault(of: try past.multiGet(group.keys(slot)), in: slot, lowest: lowest))
        } catch EngineError.historyGone {}
    }

    private func scanLoads() throws {
        let values = try database.scan(.prefix([StressCrowd.loads])).map(\.value.value)
        if Set(values).count > 1 || (!values.isEmpty && values.count != 60) {
            failures.add("half of an ingest is seen")
        }
    }

    private func askPrefix(_ group: StressGroup, _ slot: Int) throws {
        guard slot > 0, slot < StressGroup.firstCleared, group.lowest >= slot else { return }
        if try !database.mayContainPrefix([UInt8(slot), group.name]) {
            failures.add("a filter misses slot \(slot)")
        }
    }
}
