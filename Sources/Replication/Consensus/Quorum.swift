// Majority arithmetic over the voters. No sorting and no allocation: clusters are small, and these
// run for every acknowledgement.
import Engine

package enum Quorum {
    package enum Outcome { case won, lost, open }

    package static func size(voters: Int) -> Int { voters / 2 + 1 }

    /// The highest value that a majority of the voters has reached; 0 without voters.
    package static func reached(_ members: [Progress], _ value: (Progress) -> UInt64) -> UInt64 {
        var voters = 0
        for member in members where member.isVoter { voters += 1 }
        var best: UInt64 = 0
        for member in members where member.isVoter {
            let bar = value(member)
            guard bar > best else { continue }
            var count = 0
            for other in members where other.isVoter && value(other) >= bar { count += 1 }
            if count >= size(voters: voters) { best = bar }
        }
        return best
    }

    /// How a ballot stands; each member's `vote` is nil until it answers.
    package static func outcome(_ members: [Progress]) -> Outcome {
        var voters = 0
        var granted = 0
        var refused = 0
        for member in members where member.isVoter {
            voters += 1
            switch member.vote {
            case .some(true): granted += 1
            case .some(false): refused += 1
            case .none: break
            }
        }
        guard voters > 0 else { return .lost }
        if granted >= size(voters: voters) { return .won }
        return voters - refused < size(voters: voters) ? .lost : .open
    }
}
