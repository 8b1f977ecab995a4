// What leaves a cache: S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for
// cache eviction", SOSP 2023). New items enter a small queue with a tenth of the bytes. At its end
// those that were asked for more than once move to the main queue; the others leave, and a ghost
// remembers their fingerprints. Who comes back while the ghost knows it goes to main at once. Main
// gives an item another round for each time it was asked for, three at most. So a scan passes
// through the small queue and leaves main alone.
//
// A pure value: no lock, no clock, no chance. Items count their own hits, since a hit must not come
// here; the policy reads and lowers the count. An item that cannot go (somebody reads it) is passed
// over, and no call looks at an item more often than it can have hits, so all calls end.

/// What an `S3FIFO` queues.
package protocol CacheItem {
    /// Bytes that are free when it is gone. Never changes.
    var footprint: Int { get }
    /// How often it was asked for, at most `CacheFrequency.max`.
    var frequency: Int { get nonmutating set }
    /// Where it stands in the queues: the policy's to read and to write.
    var place: Int { get nonmutating set }
    /// Ends it; false while it is in use, and then nothing has happened.
    func discard() -> Bool
}

package struct S3FIFO<Item: CacheItem> {
    fileprivate struct Node {
        var item: Item?
        var fingerprint: UInt32 = 0
        /// Towards the newest; in a free node the next free one.
        var newer: UInt32 = S3FIFO.none
        var older: UInt32 = S3FIFO.none
        var isMain = false
    }

    private struct Queue {
        var newest: UInt32 = S3FIFO.none
        var oldest: UInt32 = S3FIFO.none
        var count = 0
        var bytes = 0
    }

    private static var none: UInt32 { .max }
    private var nodes: [Node] = []
    private var firstFree = S3FIFO.none
    private var small = Queue()
    private var main = Queue()
    private var ghost = GhostQueue()

    package init() {}

    /// Bytes of the queued items.
    package var usedBytes: Int { small.bytes + main.bytes }
    package var mainBytes: Int { main.bytes }
    package var count: Int { small.count + main.count }
    /// What the policy itself takes besides `placeBytes` for each item.
    package var ghostBytes: Int { ghost.residentBytes }
    /// Memory of all places in the queues, those for items to come among them. Who counts it leaves
    /// `placeBytes` out of the footprint of items.
    package var placesBytes: Int { nodes.capacity * MemoryLayout<Node>.stride }
    /// What a place in the queues takes: part of an item's footprint.
    package static var placeBytes: Int { MemoryLayout<Node>.stride }

    /// Of the bytes that the cache may hold, those that main may.
    private static func mainBudget(_ budget: Int) -> Int { budget - budget / 10 }

    /// Queues a new item and makes room for it. It may be over the budget alone, or all others may
    /// be in use: then the cache is over its bound until a later call finds something to end.
    package mutating func insert(_ item: Item, fingerprint: UInt32, budget: Int) {
        let isKnown = ghost.take(fingerprint, within: S3FIFO.mainBudget(budget))
        let place = takeNode()
        nodes[Int(place)] = Node(item: item, fingerprint: fingerprint)
        item.place = Int(place)
        push(place, toMain: isKnown)
        evict(downTo: budget)
    }

    /// Forgets an item that its owner ends.
    package mutating func remove(_ item: Item) {
        let place = UInt32(item.place)
        unlink(place)
        freeNode(place)
    }

    /// Ends items until the others fit, or until none is left that could go.
    package mutating func evict(downTo budget: Int) {
        let smallBudget = budget - S3FIFO.mainBudget(budget)
        var smallVisits = small.count
        var mainVisits = (CacheFrequency.max + 1) * (main.count + small.count)
        while usedBytes > budget {
            let isMainDone = mainVisits == 0 || main.count == 0
            if smallVisits > 0, small.bytes >= smallBudget || isMainDone {
                smallVisits -= 1
                visitSmall(budget)
            } else if !isMainDone {
                mainVisits -= 1
                visitMain()
            } else {
                return
            }
        }
    }

    private mutating func visitSmall(_ budget: Int) {
        let place = small.oldest
        guard let item = nodes[Int(place)].item else {
            brokenInvariant("a cache queue holds a free place")
        }
        if item.frequency > CacheFrequency.promotion {
            unlink(place)
            item.frequency = 0
            push(place, toMain: true)
            return
        }
        let fingerprint = nodes[Int(place)].fingerprint
        let residents = count
        let bytes = item.footprint
        if end(item, at: place, bytes: bytes) {
            ghost.note(
                fingerprint, bytes: bytes, residents: residents,
                within: S3FIFO.mainBudget(budget))
        }
    }

    private mutating func visitMain() {
        let place = main.oldest
        guard let item = nodes[Int(place)].item else {
            brokenInvariant("a cache queue holds a free place")
        }
        let frequency = item.frequency
        if frequency > 0 {
            item.frequency = frequency - 1
            unlink(place)
            push(place, toMain: true)
        } else {
            _ = end(item, at: place, bytes: item.footprint)
        }
    }

    /// Ends the item, or passes over it: then it is the newest of its queue.
    private mutating func end(_ item: Item, at place: UInt32, bytes: Int) -> Bool {
        let wasMain = nodes[Int(place)].isMain
        unlink(place)
        if item.discard() {
            freeNode(place)
            return true
        }
        push(place, toMain: wasMain)
        return false
    }
}

// MARK: Queues

extension S3FIFO {
    private mutating func takeNode() -> UInt32 {
        guard firstFree != S3FIFO.none else {
            nodes.append(Node(item: nil))
            return UInt32(nodes.count - 1)
        }
        defer { firstFree = nodes[Int(firstFree)].newer }
        return firstFree
    }

    private mutating func freeNode(_ place: UInt32) {
        nodes[Int(place)] = Node(item: nil, newer: firstFree)
        firstFree = place
    }

    private mutating func push(_ place: UInt32, toMain isMain: Bool) {
        var queue = isMain ? main : small
        nodes[Int(place)].isMain = isMain
        nodes[Int(place)].newer = S3FIFO.none
        nodes[Int(place)].older = queue.newest
        if queue.newest == S3FIFO.none {
            queue.oldest = place
        } else {
            nodes[Int(queue.newest)].newer = place
        }
        queue.newest = place
        queue.count += 1
        queue.bytes += nodes[Int(place)].item?.footprint ?? 0
        set(queue, isMain)
    }

    private mutating func unlink(_ place: UInt32) {
        let node = nodes[Int(place)]
        var queue = node.isMain ? main : small
        if node.newer == S3FIFO.none {
            queue.newest = node.older
        } else {
            nodes[Int(node.newer)].older = node.older
        }
        if node.older == S3FIFO.none {
            queue.oldest = node.newer
        } else {
            nodes[Int(node.older)].newer = node.newer
        }
        queue.count -= 1
        queue.bytes -= node.item?.footprint ?? 0
        set(queue, node.isMain)
    }

    private mutating func set(_ queue: Queue, _ isMain: Bool) {
        if isMain { main = queue } else { small = queue }
    }
}

extension S3FIFO: Sendable where Item: Sendable {}
extension S3FIFO.Node: Sendable where Item: Sendable {}

/// How hits are counted.
package enum CacheFrequency {
    /// More hits than this are not told apart.
    package static let max = 3
    /// An item with more hits than this moves from the small queue to main.
    package static let promotion = 1
}
