// S3-FIFO against a plain model of itself, and the properties that it was chosen for.

import Engine
import Testing

@Suite struct S3FIFOTests {
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func evictsAsThePlainModelDoes(seed: UInt64) {
        var random = TableTestRandom(seed: seed)
        var budget = 200 + random.below(4000)
        var policy = S3FIFO<CacheTestItem>()
        var model = PlainS3FIFO()
        var items: [Int: CacheTestItem] = [:]
        for step in 0..<2000 {
            // Few ids are asked for often.
            let universe = 1 + random.below(120)
            let id = random.below(universe)
            if let item = items[id], !item.isGone {
                switch random.below(20) {
                case 0: item.isPinned.toggle()
                case 1 where !item.isPinned:
                    policy.remove(item)
                    model.remove(item)
                    item.isGone = true
                default: item.noteHit()
                }
            } else {
                let item = CacheTestItem(id, bytes: 1 + random.below(200))
                items[id] = item
                let twin = CacheTestItem(id, bytes: item.footprint)
                item.twin = twin
                policy.insert(item, fingerprint: UInt32(id + 1), budget: budget)
                model.insert(twin, budget: budget)
            }
            if step % 500 == 499 {
                budget = 100 + random.below(4000)
                policy.evict(downTo: budget)
                model.evict(downTo: budget)
            }
            let wrong = items.values.filter { $0.isGone != $0.twin?.isGone }.map(\.id)
            #expect(wrong.isEmpty, "seed \(seed), step \(step)")
            #expect(policy.usedBytes == model.bytes && policy.mainBytes == model.mainBytes)
            if !wrong.isEmpty { return }
        }
    }

    /// The reason for the policy: neither second chance nor plain FIFO passes.
    @Test func aScanOfTenTimesTheCacheLeavesWhatIsReadOften() {
        #expect(hotItemsLeft { S3FIFOUnderTest(budget: $0) } == 40)
        #expect(hotItemsLeft { SecondChance(budget: $0) } == 0)
        #expect(hotItemsLeft { PlainFIFO(budget: $0) } == 0)
    }

    /// How many of 40 items, read four times each, are still there after a scan of 1,000 others
    /// through a cache for 100.
    private func hotItemsLeft(_ make: (Int) -> any CacheUnderTest) -> Int {
        let cache = make(100 * 10)
        let hot = (0..<40).map { CacheTestItem($0, bytes: 10) }
        for item in hot { cache.insert(item) }
        for _ in 0..<3 { for item in hot { item.noteHit() } }
        for id in 100..<1100 { cache.insert(CacheTestItem(id, bytes: 10)) }
        return hot.filter { !$0.isGone }.count
    }

    @Test func holdsNoMoreThanItsBudget() {
        var random = TableTestRandom(seed: 5)
        var policy = S3FIFO<CacheTestItem>()
        for id in 0..<2000 {
            let item = CacheTestItem(id, bytes: 1 + random.below(300))
            for _ in 0..<random.below(5) { item.noteHit() }
            policy.insert(item, fingerprint: UInt32(id), budget: 3000)
            #expect(policy.usedBytes <= 3000)
        }
        #expect(policy.usedBytes > 2000)
        #expect(policy.ghostBytes > 0 && policy.ghostBytes <= 8 * 2048)
        policy.evict(downTo: 0)
        #expect(policy.usedBytes == 0 && policy.count == 0)
    }

    @Test func itemsInUseArePassedOverAndNothingLoops() {
        var policy = S3FIFO<CacheTestItem>()
        let items = (0..<50).map { CacheTestItem($0, bytes: 10) }
        for item in items {
            item.isPinned = true
            for _ in 0..<item.id % 5 { item.noteHit() }
            policy.insert(item, fingerprint: UInt32(item.id), budget: 100)
        }
        #expect(policy.usedBytes == 500)
        #expect(items.allSatisfy { !$0.isGone })
        // What is not in use goes, wherever it stands.
        for item in items where item.id >= 20 && item.id < 25 { item.isPinned = false }
        policy.evict(downTo: 100)
        #expect(items.filter(\.isGone).map(\.id) == [20, 21, 22, 23, 24])
        for item in items { item.isPinned = false }
        policy.evict(downTo: 100)
        #expect(policy.usedBytes == 100)
    }

    @Test func whoComesBackSoonGoesToMain() {
        var policy = S3FIFO<CacheTestItem>()
        func insert(_ id: Int) -> CacheTestItem {
            let item = CacheTestItem(id, bytes: 10)
            policy.insert(item, fingerprint: UInt32(id), budget: 1000)
            return item
        }
        let first = insert(7)
        for id in 100..<200 { _ = insert(id) }
        #expect(first.isGone && policy.mainBytes == 0)
        let second = insert(7)
        #expect(policy.mainBytes == 10)
        for id in 200..<2000 { _ = insert(id) }
        #expect(!second.isGone)
        // After more has left than main can hold, it is not known again.
        #expect(insert(150).isGone == false)
        #expect(policy.mainBytes == 10)
    }

    @Test func theGhostForgetsByBytesAndOnlyKnowsWhatLeft() {
        var ghost = GhostQueue()
        let window = 500 * 4096
        for id in 0..<2000 as Range<UInt32> {
            ghost.note(id &* 0x9e37_79b9, bytes: 4096, residents: 600, within: window)
        }
        func known(_ ids: Range<UInt32>) -> Int {
            ids.filter { ghost.take($0 &* 0x9e37_79b9, within: window) }.count
        }
        #expect(known(0..<1499) == 0)
        #expect(known(2000..<4000) == 0)
        // Full buckets forget a few early.
        #expect(known(1500..<2000) > 450)
        #expect(known(1500..<2000) == 0)
        #expect(ghost.residentBytes == 8 * 1024)
    }
}

final class CacheTestItem: CacheItem {
    let id: Int
    let footprint: Int
    var frequency = 0
    var place = 0
    var isGone = false
    /// Its like in a model, which has the same fate.
    var twin: CacheTestItem?
    var isPinned = false {
        didSet { twin?.isPinned = isPinned }
    }

    init(_ id: Int, bytes: Int) {
        self.id = id
        footprint = bytes
    }

    func noteHit() {
        frequency = min(frequency + 1, CacheFrequency.max)
        twin?.noteHit()
    }

    func discard() -> Bool {
        if isPinned { return false }
        isGone = true
        return true
    }
}

/// The paper's algorithm over arrays, oldest first.
struct PlainS3FIFO {
    var small: [CacheTestItem] = []
    var main: [CacheTestItem] = []
    var ghost = GhostQueue()

    var bytes: Int { (small + main).reduce(0) { $0 + $1.footprint } }
    var mainBytes: Int { main.reduce(0) { $0 + $1.footprint } }

    mutating func insert(_ item: CacheTestItem, budget: Int) {
        if ghost.take(UInt32(item.id + 1), within: budget - budget / 10) {
            main.append(item)
        } else {
            small.append(item)
        }
        evict(downTo: budget)
    }

    mutating func remove(_ item: CacheTestItem) {
        guard let twin = item.twin else { return }
        small.removeAll { $0 === twin }
        main.removeAll { $0 === twin }
        twin.isGone = true
    }

    mutating func evict(downTo budget: Int) {
        var smallLeft = small.count
        var mainLeft = 4 * (small.count + main.count)
        while bytes > budget {
            let canMain = mainLeft > 0 && !main.isEmpty
            let smallBytes = bytes - mainBytes
            if smallLeft > 0, smallBytes >= budget / 10 || !canMain {
                smallLeft -= 1
                evictSmall(budget)
            } else if canMain {
                mainLeft -= 1
                evictMain()
            } else {
                return
            }
        }
    }

    private mutating func evictSmall(_ budget: Int) {
        let residents = small.count + main.count
        let item = small.removeFirst()
        if item.frequency > 1 {
            item.frequency = 0
            main.append(item)
        } else if item.discard() {
            ghost.note(
                UInt32(item.id + 1), bytes: item.footprint, residents: residents,
                within: budget - budget / 10)
        } else {
            small.append(item)
        }
    }

    private mutating func evictMain() {
        let item = main.removeFirst()
        if item.frequency > 0 {
            item.frequency -= 1
            main.append(item)
        } else if !item.discard() {
            main.append(item)
        }
    }
}

private protocol CacheUnderTest: AnyObject {
    func insert(_ item: CacheTestItem)
}

private final class S3FIFOUnderTest: CacheUnderTest {
    private var policy = S3FIFO<CacheTestItem>()
    private let budget: Int
    init(budget: Int) { self.budget = budget }
    func insert(_ item: CacheTestItem) {
        policy.insert(item, fingerprint: UInt32(item.id), budget: budget)
    }
}

private final class SecondChance: CacheUnderTest {
    private var queue: [CacheTestItem] = []
    private let budget: Int
    init(budget: Int) { self.budget = budget }
    func insert(_ item: CacheTestItem) {
        queue.append(item)
        while queue.reduce(0, { $0 + $1.footprint }) > budget {
            let oldest = queue.removeFirst()
            if oldest.frequency > 0 {
                oldest.frequency = 0
                queue.append(oldest)
            } else {
                _ = oldest.discard()
            }
        }
    }
}

private final class PlainFIFO: CacheUnderTest {
    private var queue: [CacheTestItem] = []
    private let budget: Int
    init(budget: Int) { self.budget = budget }
    func insert(_ item: CacheTestItem) {
        queue.append(item)
        while queue.reduce(0, { $0 + $1.footprint }) > budget {
            _ = queue.removeFirst().discard()
        }
    }
}
