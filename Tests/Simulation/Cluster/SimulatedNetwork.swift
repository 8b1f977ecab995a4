// The network of the simulated cluster: one connection in each direction between any two nodes.
// Messages take their time, overtake each other, come twice or not at all; connections break when a
// process dies or a link is cut, sooner or later, and are made again when both ends are there.
import Engine
import Replication

/// How bad the network is now; counts are out of a thousand messages.
package struct NetworkWeather {
    package var lost = 0
    package var repeated = 0
    package var overtaking = 0
    package var late = 0
    package var delayMax = 3

    package static let fair = NetworkWeather()
    package static let poor = NetworkWeather(
        lost: 30, repeated: 20, overtaking: 150, late: 20, delayMax: 12)
}

package final class SimulatedNetwork {
    private unowned let cluster: SimulatedCluster
    private let count: Int
    private var random: SeededRandom
    package var weather = NetworkWeather.fair
    /// By how much longer than others everything takes that goes to a node.
    package var delayTo: [Int: UInt64] = [:]
    /// Nothing passes from one to the other; by sender, then receiver.
    private var isCut: [Bool]
    /// The sender takes its connection for good.
    private var isConnected: [Bool]
    private var isChanging: [Bool]
    /// When the last message in order arrives.
    private var lastArrival: [UInt64]

    package init(_ cluster: SimulatedCluster, count: Int, random: SeededRandom) {
        self.cluster = cluster
        self.count = count
        self.random = random
        let links = count * count
        isCut = Array(repeating: false, count: links)
        isConnected = Array(repeating: false, count: links)
        isChanging = Array(repeating: false, count: links)
        lastArrival = Array(repeating: 0, count: links)
    }

    private func link(_ from: Int, _ to: Int) -> Int { from * count + to }

    // MARK: Messages

    /// False if the sender knows that it cannot go out.
    package func send(_ message: PeerMessage, from: Int, to: Int) -> Bool {
        let link = link(from, to)
        guard to < count, isConnected[link] else { return false }
        guard !isCut[link], random.below(1000) >= weather.lost else { return true }
        let copies = random.below(1000) < weather.repeated ? 2 : 1
        for _ in 0..<copies { carry(message, from, to, link) }
        return true
    }

    private func carry(_ message: PeerMessage, _ from: Int, _ to: Int, _ link: Int) {
        guard let receiver = cluster.process(to) else { return }
        var time = cluster.now + 1 + UInt64(random.below(weather.delayMax))
        if random.below(1000) < weather.late { time += UInt64(random.below(400)) }
        time += delayTo[to] ?? 0
        if random.below(1000) >= weather.overtaking {
            time = max(time, lastArrival[link])
            lastArrival[link] = time
        }
        cluster.schedule(
            .message(message, from: MemberID(UInt64(from + 1)), to: receiver),
            after: time - cluster.now)
    }

    // MARK: Links

    package func cut(_ from: Int, _ to: Int) {
        isCut[link(from, to)] = true
        review()
    }

    /// Cuts one node off from all others, both ways.
    package func isolate(_ place: Int) {
        for other in 0..<count where other != place {
            isCut[link(place, other)] = true
            isCut[link(other, place)] = true
        }
        review()
    }

    package func heal() {
        isCut = isCut.map { _ in false }
        review()
    }

    package func isOpen(_ from: Int, _ to: Int) -> Bool { !isCut[link(from, to)] }

    /// A process ended: its own connections are gone; the others learn of it in time.
    package func processEnded(_ place: Int) {
        for other in 0..<count where other != place {
            isConnected[link(place, other)] = false
            lastArrival[link(place, other)] = 0
            lastArrival[link(other, place)] = 0
        }
        review()
    }

    /// Looks for connections to make or to give up.
    package func review() {
        for from in 0..<count {
            for to in 0..<count where from != to {
                let link = link(from, to)
                guard wanted(from, to) != isConnected[link], !isChanging[link] else { continue }
                isChanging[link] = true
                // A cut shows after a while; a dead process resets its connections.
                let patience = cluster.process(to) == nil || !isConnected[link] ? 30 : 1_500
                cluster.schedule(
                    .link(from: from, to: to), after: 1 + UInt64(random.below(patience)))
            }
        }
    }

    private func wanted(_ from: Int, _ to: Int) -> Bool {
        cluster.process(from) != nil && cluster.process(to) != nil
            && !isCut[link(from, to)] && !isCut[link(to, from)]
    }

    package func change(_ from: Int, _ to: Int) {
        let link = link(from, to)
        isChanging[link] = false
        guard let sender = cluster.process(from) else {
            isConnected[link] = false
            return
        }
        let isWanted = wanted(from, to)
        guard isWanted != isConnected[link] else { return }
        isConnected[link] = isWanted
        let peer = MemberID(UInt64(to + 1))
        if isWanted { sender.connected(to: peer) } else { sender.replica.post(.disconnected(peer)) }
    }

    /// A receiver that was replaced by a new process resets the sender's connection.
    package func processStarted(_ place: Int) {
        for other in 0..<count where other != place {
            let link = link(other, place)
            guard isConnected[link], let sender = cluster.process(other) else { continue }
            isConnected[link] = false
            sender.replica.post(.disconnected(MemberID(UInt64(place + 1))))
        }
        review()
    }
}
