// Majority arithmetic over the voters. No sorting and no allocation: clusters are small, and these
// run for every acknowledgement. In a joint membership both halves have to agree.
import Engine

package enum Quorum {
    package enum Outcome { case won, lost, open }

    private enum Half { case new, old }

    package static func size(voters: Int) -> Int { voters / 2 + 1 }

    /// The highest value that a quorum of the voters has reached; 0 without voters.
    package static func reached(_ members: [Progress], _ value: (Progress) -> UInt64) -> UInt64 {
        let new = reached(members, .new, value) ?? 0
        guard let old = reached(members, .old, value) else { return new }
        return min(new, old)
    }

    /// Nil if nobody votes in this half.
    private static func reached(
        _ members: [Progress], _ half: Half, _ value: (Progress) -> UInt64
    ) -> UInt64? {
        var voters = 0
        for member in members where votes(member, half) { voters += 1 }
        if voters == 0 { return nil }
        var best: UInt64 = 0
        for member in members where votes(member, half) {
            let bar = value(member)
            guard bar > best else { continue }
            var count = 0
            for other in members where votes(other, half) && value(other) >= bar { count += 1 }
            if count >= size(voters: voters) { best = bar }
        }
        return best
    }

    /// How a ballot stands; each member's `vote` is nil until it answers.
    package static func outcome(_ members: [Progress]) -> Outcome {
        let new = outcome(members, .new) ?? .lost
        guard let old = outcome(members, .old) else { return new }
        if new == .lost || old == .lost { return .lost }
        return new == .won && old == .won ? .won : .open
    }

    private static func outcome(_ members: [Progress], _ half: Half) -> Outcome? {
        var voters = 0
        var granted = 0
        var refused = 0
        for member in members where votes(member, half) {
            voters += 1
            switch member.vote {
            case .some(true): granted += 1
            case .some(false): refused += 1
            case .none: break
            }
        }
        if voters == 0 { return nil }
        if granted >= size(voters: voters) { return .won }
        return voters - refused < size(voters: voters) ? .lost : .open
    }

    private static func votes(_ member: Progress, _ half: Half) -> Bool {
        half == .new ? member.isVoter : member.wasVoter
    }
}
