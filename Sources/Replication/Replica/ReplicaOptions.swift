// What a replica is told by its node's configuration.
import Engine

package struct ReplicaOptions: Sendable {
    package var cluster: String
    package var node: MemberID
    package var group: UInt32 = 0
    /// Seeds the first `membership` entry; the log rules afterwards.
    package var seedMembers: Membership
    /// Seeds the first `settings` entry.
    package var seedSettings: LoggedSettings
    package var electionTimeoutMilliseconds: UInt64 = 600
    package var heartbeatMilliseconds: UInt64 = 50
    /// A leader whose clock differs by more from those of most members steps down.
    package var maxClockOffsetMilliseconds: UInt64 = 500
    /// For so long a leader serves reads without asking the others; 0: it always asks.
    package var leaseMilliseconds: UInt64 = 0
    /// By so much two members' clocks may drift apart during a lease.
    package var leaseDriftMilliseconds: UInt64 = 15
    /// Whoever else leads hands over to it.
    package var preferredLeader = MemberID.none
    /// Recent entries kept in memory for followers.
    package var cacheBytes = 32 << 20
    /// Log bytes held back for members that are behind.
    package var retainBytes: UInt64 = 8 << 30
    /// Inputs of jobs are kept this long for members that are away.
    package var keepObsoleteMilliseconds: UInt64 = 600_000
    package var seed: UInt64 = 1
    package var store: StoreOptions

    package init(
        cluster: String, node: MemberID, seedMembers: Membership, seedSettings: LoggedSettings,
        store: StoreOptions
    ) {
        self.cluster = cluster
        self.node = node
        self.seedMembers = seedMembers
        self.seedSettings = seedSettings
        self.store = store
    }

    /// Longest a client waits for a leader or a confirmation.
    package static let readTimeoutMilliseconds: UInt64 = 3_000
    /// Longest a proposal stays undecided after leadership was lost.
    package static let unknownAfterMilliseconds: UInt64 = 2_000
    /// Longest a command sent to an old leader waits for its answer once another one is known.
    package static let lateAnswerMilliseconds: UInt64 = 500
    /// An entry made this far ahead of the own clock is not acknowledged.
    package static let clockAheadMilliseconds: UInt64 = 10_000
}
