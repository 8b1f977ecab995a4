// What a member's consensus machine is told once: who it is, who the others are, how long it waits
// and how much it keeps in flight. Every value has a default that suits a local network.
import Engine

package struct RaftConfiguration: Sendable {
    package var id: MemberID
    /// As of the applied state that the machine starts from; later changes come as `.membership`.
    package var members: RaftMembers
    /// Milliseconds. A follower campaigns after a random time in this range without its leader;
    /// voters refuse for the lower bound after they heard one; a leader steps down when what a
    /// quorum answered last was sent longer ago than the upper bound.
    package var electionTimeout: ClosedRange<UInt64> = 300...600
    package var heartbeatInterval: UInt64 = 50
    /// Appends to one member that were sent and not answered yet.
    package var maxInflightMessages = 64
    package var maxInflightBytes = 16 << 20
    /// Encoded bytes of the entries of one append. A larger entry has an append of its own.
    package var maxMessageBytes = 1 << 20
    /// An append above this travels alone: nothing is in flight to the member before it, nothing is
    /// sent until it is answered. So it may take another way, where it delays nothing small.
    package var aloneBytes = PeerMessage.bulkBytes
    /// Encoded bytes of this term's entries that a leader takes before the first of them commits.
    package var maxUncommittedBytes = 64 << 20
    /// For so long a quorum's answers to a heartbeat, counted from when it was sent, let a leader
    /// serve reads without asking again; 0: never. All members have to agree on it, and it has to
    /// be below `electionTimeout`.
    package var leaseMilliseconds: UInt64 = 0
    /// By so much two members' clocks may drift apart during a lease.
    package var leaseDriftMilliseconds: UInt64 = 15
    /// Whoever else leads hands over to it; `.none`: nobody is preferred.
    package var preferredLeader = MemberID.none
    /// A member whose disk has finished nothing for so long, while something waits for it, does not
    /// lead.
    package var diskPatience: UInt64 = 3_000
    /// Members should differ in it (the id is mixed in as well).
    package var seed: UInt64

    package init(id: MemberID, members: RaftMembers, seed: UInt64) {
        self.id = id
        self.members = members
        self.seed = seed
    }
}

extension RaftConfiguration {
    static let firstHandoverDelay: UInt64 = 5_000
    static let longestHandoverDelay: UInt64 = 300_000
    /// Entries of its own term that a leader holds uncommitted, and of which it knows the sizes.
    static let maxUncommittedEntries = 16_384
    /// Terms and indexes above this are taken for garbage, so that adding to one never overflows.
    static let counterLimit: UInt64 = 1 << 62
    /// Elections that one member may miss: one a millisecond for seven weeks.
    static let termJumpMax: UInt64 = 1 << 32
    /// What the slowest way to a member is believed to carry: entries are not sent again, nor one
    /// that travels alone asked about, before they can have arrived.
    static let slowestBytesPerMillisecond = 2 << 10
}
