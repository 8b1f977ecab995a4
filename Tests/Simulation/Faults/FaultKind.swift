// The names of the faults that a simulation may draw from.

package enum FaultKind: String, CaseIterable, Sendable {
    case crash
    case power
    /// A process dies between any two steps on its disk.
    case midway
    case transfer
    /// Several leaders in a row fall as they begin.
    case succession
    case partition
    case oneWay = "one-way"
    case delay
    case loss
    case reorder
    case duplicate
    /// Links carry little, so that what is large comes late.
    case bandwidth
    case rotLog = "rot-log"
    case rotTable = "rot-table"
    case rotManifest = "rot-manifest"
    case rotState = "rot-state"
    case lostState = "lost-state"
    case misdirected
    case unreadable = "eio"
    case full = "enospc"
    case stuck
    case failedSync = "failed-sync"
    case clock
    case slowJobs = "slow-jobs"
    case pause

    /// `all`, `none`, or names with commas between them; the name that is none, otherwise.
    package static func parse(_ list: String) -> Result<[FaultKind], UnknownFault> {
        switch list {
        case "all": return .success(allCases)
        case "none": return .success([])
        default: break
        }
        var kinds: [FaultKind] = []
        for name in list.split(separator: ",", omittingEmptySubsequences: false) {
            guard let kind = FaultKind(rawValue: String(name)) else {
                return .failure(UnknownFault(name: String(name)))
            }
            kinds.append(kind)
        }
        return .success(kinds)
    }
}

package struct UnknownFault: Error {
    package var name: String
}
