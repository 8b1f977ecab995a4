// The network of the simulated cluster: between any two nodes one connection in each direction and
// lane. Messages take their time, overtake each other, come twice or not at all; a connection that
// carries little makes those behind a large one wait. Connections break when a process dies or a
// link is cut, sooner or later, and are made again when both ends are there.
import Engine
import Replication

/// How bad the network is now; counts are out of a thousand messages.
package struct NetworkWeather {
    package var lost = 0
    package var repeated = 0
    package var overtaking = 0
    package var late = 0
    package var delayMax = 3
    /// Bytes per millisecond that a connection carries; 0: any number.
    package var bandwidth = 0

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
    /// By link and lane: when the last message in order arrives, and when the sender's last byte is
    /// on its way.
    private var lastArrival: [UInt64]
    private var sentUntil: [UInt64]
    /// With more waiting than takes this long a sender is refused, milliseconds; and no message
    /// alone takes longer.
    private static let queueMilliseconds: UInt64 = 1_000
    private static let lanes = PeerLane.allCases.count

    package init(_ cluster: SimulatedCluster, count: Int, random: SeededRandom) {
        self.cluster = cluster
        self.count = count
        self.random = random
        let links = count * count
        isCut = Array(repeating: false, count: links)
        isConnected = Array(repeating: false, count: links)
        isChanging = Array(repeating: false, count: links)
        lastArrival = Array(repeating: 0, count: links * SimulatedNetwork.lanes)
        sentUntil = lastArrival
    }

    private func link(_ from: Int, _ to: Int) -> Int { from * count + to }

    private func lanes(_ link: Int) -> Range<Int> {
        link * SimulatedNetwork.lanes..<(link + 1) * SimulatedNetwork.lanes
    }

    // MARK: Messages

    /// False if the sender knows that it cannot go out.
    package func send(_ message: PeerMessage, from: Int, to: Int) -> Bool {
        let link = link(from, to)
        guard to < count, isConnected[link] else { return false }
        let lane = lanes(link).lowerBound + Int(message.lane.rawValue) - 1
        guard let sent = queue(message, on: lane) else { return false }
        guard !isCut[link], random.below(1000) >= weather.lost else { return true }
        let copies = random.below(1000) < weather.repeated ? 2 : 1
        for _ in 0..<copies { carry(message, from, to, lane, sent) }
        return true
    }

    /// When its last byte leaves; nil if too much waits already.
    private func queue(_ message: PeerMessage, on lane: Int) -> UInt64? {
        guard weather.bandwidth > 0 else { return cluster.now }
        let begins = max(sentUntil[lane], cluster.now)
        guard begins - cluster.now < SimulatedNetwork.queueMilliseconds else { return nil }
        let takes = UInt64(SimulatedNetwork.size(of: message) / weather.bandwidth)
        sentUntil[lane] = begins + min(takes, SimulatedNetwork.queueMilliseconds)
        return sentUntil[lane]
    }

    /// Roughly; nothing but entries is large here.
    private static func size(of message: PeerMessage) -> Int {
        guard case .raft(_, .append(let request)) = message else { return 64 }
        return request.entries.reduce(64) { $0 + $1.encoded.count }
    }

    private func carry(
        _ message: PeerMessage, _ from: Int, _ to: Int, _ lane: Int, _ sent: UInt64
    ) {
        guard let receiver = cluster.process(to) else { return }
        var time = sent + 1 + UInt64(random.below(weather.delayMax))
        if random.below(1000) < weather.late { time += UInt64(random.below(400)) }
        time += delayTo[to] ?? 0
        if random.below(1000) >= weather.overtaking {
            time = max(time, lastArrival[lane])
            lastArrival[lane] = time
        }
        cluster.schedule(
            .message(.init(message, from: MemberID(UInt64(from + 1)), to: receiver)),
            after: time - cluster.now)
    }

    // MARK: Links

    package func cut(_ from: Int, _ to: Int) {
        isCut[link(from, to)] = true
        review()
    }

    /// Cuts one node off from all others, both ways. With `resets` all learn of it soon, as of a
    /// cable that is pulled at the own end; else when they give up.
    package func isolate(_ place: Int, resets: Bool = false) {
        for other in 0..<count where other != place {
            isCut[link(place, other)] = true
            isCut[link(other, place)] = true
        }
        review(resets: resets)
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
            for lane in Array(lanes(link(place, other))) + Array(lanes(link(other, place))) {
                lastArrival[lane] = 0
                sentUntil[lane] = 0
            }
        }
        review()
    }

    /// Looks for connections to make or to give up.
    private func review(resets: Bool = false) {
        for from in 0..<count {
            for to in 0..<count where from != to {
                let link = link(from, to)
                guard wanted(from, to) != isConnected[link], !isChanging[link] else { continue }
                isChanging[link] = true
                // A cut shows after a while; a dead process resets its connections.
                let isQuick = resets || cluster.process(to) == nil || !isConnected[link]
                let patience = isQuick ? 30 : 1_500
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
