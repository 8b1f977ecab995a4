// Moves messages from a link's queue to its socket: encodes what waits into one block, writes the
// block in chunks, and only while the socket takes them. So a burst of messages costs one flush, a
// huge one is never copied whole into the socket's buffers, and a peer that does not read leaves
// its messages in the bounded queue. Lives on the link's event loop.
import Engine
import NIOCore
import Synchronization

final class OutgoingWriter {
    /// Frames are gathered until a block holds this much.
    private static let blockBytes = 128 << 10
    private static let chunkBytes = 128 << 10
    /// Written in one go before other connections of the loop get their turn.
    private static let turnBytes = 512 << 10
    /// A block above this is given back after use.
    private static let keptBytes = 1 << 20

    private let queue: OutgoingQueue
    private let limits: FrameLimits
    private let counters: PeerCounters
    private let lane: PeerLane

    /// Taken from the queue; those before `nextItem` are encoded.
    private var items: [OutgoingQueue.Item] = []
    private var nextItem = 0
    private var block = ByteWriter()
    private var written = 0
    /// Of the messages in `block`.
    private var blockItems: [OutgoingQueue.Item] = []
    private var isWriting = false

    init(queue: OutgoingQueue, limits: FrameLimits, counters: PeerCounters, lane: PeerLane) {
        self.queue = queue
        self.limits = limits
        self.counters = counters
        self.lane = lane
    }

    /// True if there is more to write in a later turn of the loop.
    func write(to channel: any Channel) -> Bool {
        // A flush may report that the socket is writable again while it runs.
        guard !isWriting else { return false }
        isWriting = true
        defer { isWriting = false }
        var budget = OutgoingWriter.turnBytes
        while channel.isWritable, channel.isActive {
            if written == block.count, !refill() { return false }
            guard budget > 0 else { return true }
            budget -= writeChunk(to: channel)
            if written == block.count { finishBlock() }
        }
        return false
    }

    private func writeChunk(to channel: any Channel) -> Int {
        let count = min(OutgoingWriter.chunkBytes, block.count - written)
        var buffer = channel.allocator.buffer(capacity: count)
        block.bytes.withUnsafeBytes { bytes in
            _ = buffer.writeBytes(
                UnsafeRawBufferPointer(rebasing: bytes[written..<(written + count)]))
        }
        written += count
        counters.bytesSent.add(count, ordering: .relaxed)
        counters.flushes.add(1, ordering: .relaxed)
        channel.writeAndFlush(buffer, promise: nil)
        return count
    }

    /// Encodes the next messages; false if there are none.
    private func refill() -> Bool {
        while block.count < OutgoingWriter.blockBytes {
            if nextItem == items.count {
                items = queue.takeAll()
                nextItem = 0
                if items.isEmpty { break }
            }
            encode(items[nextItem])
            nextItem += 1
        }
        return block.count > 0
    }

    private func encode(_ item: OutgoingQueue.Item) {
        do throws(UnsendableMessage) {
            try MessageCodec.encode(item.message, limits: limits, into: &block)
            blockItems.append(item)
        } catch {
            queue.release(bytes: item.bytes)
            counters.countDropped(lane)
            item.completion?(.unsendable(error.what))
        }
    }

    private func finishBlock() {
        guard block.count > 0 else { return }
        counters.messagesSent.add(blockItems.count, ordering: .relaxed)
        queue.release(bytes: blockItems.reduce(0) { $0 + $1.bytes })
        resetBlock().forEach { $0.completion?(nil) }
    }

    private func resetBlock() -> [OutgoingQueue.Item] {
        let keeps = block.bytes.capacity <= OutgoingWriter.keptBytes
        block.bytes.removeAll(keepingCapacity: keeps)
        written = 0
        let done = blockItems
        blockItems.removeAll(keepingCapacity: true)
        return done
    }

    /// The connection is gone, or there was none: everything encoded, taken and in `queued` is
    /// dropped. Of what was encoded some may have arrived; the rest certainly has not, and fails
    /// for `reason`.
    func abandon(_ queued: [OutgoingQueue.Item], _ reason: PeerSendFailure) {
        let encoded = resetBlock()
        let unsent = items[nextItem...] + queued
        items = []
        nextItem = 0
        counters.countDropped(lane, encoded.count + unsent.count)
        for item in encoded { item.completion?(.disconnected) }
        for item in unsent { item.completion?(reason) }
    }
}
