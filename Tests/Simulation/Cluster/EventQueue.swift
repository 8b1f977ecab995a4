// Events by virtual time; events of the same time come in the order in which they were scheduled,
// so that a run is a function of its seed alone.

package struct EventQueue<Event> {
    private struct Item {
        var time: UInt64
        var order: UInt64
        /// Place in `events`, so that nothing is counted while items change places.
        var slot: Int

        func isBefore(_ other: Item) -> Bool {
            time != other.time ? time < other.time : order < other.order
        }
    }

    /// A binary heap, the earliest first.
    private var heap: [Item] = []
    private var events: [Event?] = []
    private var freeSlots: [Int] = []
    private var order: UInt64 = 0

    package var nextTime: UInt64? { heap.first?.time }

    package mutating func add(_ event: Event, at time: UInt64) {
        order += 1
        heap.append(Item(time: time, order: order, slot: place(event)))
        var child = heap.count - 1
        while child > 0, heap[child].isBefore(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func place(_ event: Event) -> Int {
        guard let slot = freeSlots.popLast() else {
            events.append(event)
            return events.count - 1
        }
        events[slot] = event
        return slot
    }

    package mutating func popFirst() -> (time: UInt64, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        guard let event = events[first.slot].take() else {
            preconditionFailure("an item of the queue without its event")
        }
        freeSlots.append(first.slot)
        return (first.time, event)
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            for child in 2 * parent + 1...2 * parent + 2
            where child < heap.count && heap[child].isBefore(heap[least]) {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
