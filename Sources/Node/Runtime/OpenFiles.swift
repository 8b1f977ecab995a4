// How many files and sockets this process may have open, and what of them is left for clients. A
// node that runs out cannot begin its log's next segment, and ends; so clients get what everything
// else does not need.
import Engine
import Glibc

package enum OpenFiles {
    /// Tables and blob files that are open at a time, as many again while compactions and heals
    /// work and old readers keep theirs, segments of the log, and peers, strangers among them.
    static let reserved = 2 * StoreOptions().openTables + 512

    /// Raises this process's limit as far as the system lets it; returns what then holds.
    package static func raiseLimit() throws(NodeFailure) -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            throw NodeFailure(.system, "getrlimit: \(String(cString: strerror(errno)))")
        }
        var raised = limit
        raised.rlim_cur = limit.rlim_max
        // Refused above what the kernel allows any process: then the old limit stays.
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { limit = raised }
        return Int(clamping: limit.rlim_cur)
    }

    /// Lowers `client.connections-max` to what `limit` leaves for clients, at least a quarter of
    /// it. The second value says so, if it is so.
    package static func fit(_ configuration: NodeConfiguration, limit: Int)
        -> (NodeConfiguration, warning: String?)
    {
        let wanted = configuration.client.connectionsMax
        let allowed = max(limit - reserved, limit / 4)
        guard wanted > allowed else { return (configuration, nil) }
        var fitted = configuration
        fitted.client.connectionsMax = allowed
        return (
            fitted,
            "client.connections-max: \(allowed) clients are taken instead of \(wanted), since this"
                + " process may open \(limit) files and needs \(reserved) itself; raise the hard"
                + " limit (ulimit -Hn, LimitNOFILE) to \(wanted + reserved), or lower the setting"
        )
    }
}
