// Who a member is, as its certificate says: `martlet://<cluster>/<node>`. Parsing accepts exactly
// one spelling of each identity.
import Engine

package struct PeerIdentity: Sendable, Hashable, CustomStringConvertible {
    package var cluster: String
    package var node: MemberID

    package static let scheme = "martlet://"
    package static let clusterBytes = 64

    package init(cluster: String, node: MemberID) {
        self.cluster = cluster
        self.node = node
    }

    package var description: String { "\(PeerIdentity.scheme)\(cluster)/\(node)" }

    /// Nil if `uri` is not the URI of a member.
    package init?(uri: String) {
        guard uri.hasPrefix(PeerIdentity.scheme) else { return nil }
        let parts = uri.dropFirst(PeerIdentity.scheme.count).split(
            separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, PeerIdentity.isValid(cluster: String(parts[0])),
            let node = UInt64(parts[1]), node != 0
        else { return nil }
        self.init(cluster: String(parts[0]), node: MemberID(node))
        guard description == uri else { return nil }
    }

    /// Letters, digits, dots, hyphens and underscores of ASCII; 1 to 64 of them.
    package static func isValid(cluster: String) -> Bool {
        let bytes = cluster.utf8
        return (1...clusterBytes).contains(bytes.count)
            && bytes.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"),
                    UInt8(ascii: "_"):
                    return true
                default: return false
                }
            }
    }
}
