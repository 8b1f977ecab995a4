// Leases: reads of a leader without a round of heartbeats, for as long as nobody else can lead.
//
// A heartbeat asks for a promise. A voter that gives it grants nothing to another for that long,
// counted from when it answers, whatever happens to its connection; it does not campaign either.
// The leader counts from when it *sent* the heartbeat that a quorum promised to, less what clocks
// may drift apart meanwhile, so its lease ends first. A member that has just started does not know
// what it promised, so it grants nothing for as long as a promise lasts.
//
// An order to campaign overrides promises, so a leader that gave one holds no lease in that term
// any more: the order may be on its way for long.
import Engine

/// What a voter promised: to whom, and until when on its own clock.
struct LeasePromise: Sendable {
    var holder = MemberID.none
    var until: UInt64 = 0
}

extension RaftConfiguration {
    var isLeasing: Bool { leaseMilliseconds > leaseDriftMilliseconds }
}

extension RaftCore {
    // MARK: As a leader

    /// What heartbeats ask for, milliseconds; 0 without leases.
    var askedLease: UInt64 {
        configuration.isLeasing && !hasOrderedCampaign ? configuration.leaseMilliseconds : 0
    }

    /// Nobody else leads before this; 0 if no lease is held.
    var leaseEnd: UInt64 {
        guard role == .leader, hasCommittedInTerm, askedLease > 0 else { return 0 }
        let sentAt = Quorum.reached(members) { $0.id == id ? now : $0.promisedAt }
        return sentAt == 0 ? 0 : sentAt + askedLease - configuration.leaseDriftMilliseconds
    }

    /// Whether reads are answered without asking anybody.
    package var hasLease: Bool { now < leaseEnd }

    // MARK: As a voter

    /// Takes what a current leader's heartbeat asks for. False if it asks for nothing, or for more
    /// than this member would keep.
    mutating func promise(_ heartbeat: Heartbeat, to leader: MemberID) -> Bool {
        guard configuration.isLeasing, heartbeat.lease > 0,
            heartbeat.lease <= configuration.leaseMilliseconds
        else { return false }
        promised = LeasePromise(holder: leader, until: now + heartbeat.lease)
        return true
    }

    /// Until when this member may not help anybody but the holder of its promise to lead. The only
    /// voter is no exception: it may be the only one since a change that the holder has yet to
    /// learn of.
    func promiseEnd(against candidate: MemberID) -> UInt64 {
        guard configuration.isLeasing else { return 0 }
        let end = promised.holder == candidate ? 0 : promised.until
        return max(end, startedAt + configuration.leaseMilliseconds)
    }
}
