// Every setting of a node with its range, in the order in which documentation lists them.
import Engine

package enum SettingCatalog {
    private static let kiB: UInt64 = 1 << 10
    private static let miB: UInt64 = 1 << 20
    private static let giB: UInt64 = 1 << 30
    private static let tiB: UInt64 = 1 << 40
    private static let minute: UInt64 = 60_000
    private static let decade: UInt64 = 10 * 365 * 24 * 60 * minute

    package static let all: [SettingDefinition] =
        identity + storage + table + filter + encryption + cluster + edge

    package static let keys: [String] = all.map(\.key)

    private static let identity: [SettingDefinition] = [
        .text(
            "cluster.id", \.clusterID, allowed: "1 to 63 lower-case letters, digits and dashes",
            SettingParsing.name),
        SettingDefinition(
            key: "node.id", allowed: "1 to 9223372036854775807",
            apply: { (text, _, configuration) throws(SettingProblem) in
                let id = try SettingParsing.integer(text, 1...Int.max)
                configuration.nodeID = MemberID(UInt64(id))
            }, show: { $0.nodeID.description }),
        .file("data.directory", \.dataDirectory),
        .text(
            "listen.host", \.listen.host, allowed: "a host name or address"
        ) { (text) throws(SettingProblem) in
            guard SettingParsing.isHost(text) else {
                throw SettingProblem("\"\(text)\" is not a host")
            }
            return text
        },
        .integer("listen.resp-port", \.listen.respPort, 0...65_535),
        .integer("listen.peer-port", \.listen.peerPort, 0...65_535),
        .integer("listen.http-port", \.listen.httpPort, 0...65_535),
        SettingDefinition(
            key: "members", allowed: "a list of id, peer and client",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.members = try SettingParsing.members(text)
            }, show: { SettingParsing.format(members: $0.members) }),
        .file("tls.ca", \.tls.ca),
        .file("tls.certificate", \.tls.certificate),
        .file("tls.key", \.tls.key),
    ]

    private static let storage: [SettingDefinition] = [
        .choice("log.sync", \.log.sync),
        .size("log.segment-bytes", \.log.segmentBytes, 4 * kiB...4 * giB),
        .size("log.retain-bytes", \.log.retainBytes, 64 * kiB...1024 * tiB),
        .integer("memtable.segments-max", \.memtable.segmentsMax, 2...64),
        .duration("history.window", \.history.windowMilliseconds, 0...decade),
        .size("cache.bytes", \.cache.bytes, miB...tiB),
        .size("cache.row-bytes", \.cache.rowBytes, 0...tiB),
        .size("memory.bytes", \.memory.bytes, 0...tiB),
        SettingDefinition(
            key: "space.low-bytes", allowed: "auto, or at most 1TiB",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.space.lowBytes =
                    text == "auto" ? nil : try SettingParsing.size(text, 0...tiB)
            }, show: { $0.space.lowBytes.map(SettingParsing.format(size:)) ?? "auto" }),
        .integer("compaction.level0-trigger", \.compaction.level0Trigger, 1...64),
        .integer("compaction.level0-slowdown", \.compaction.level0Slowdown, 2...256),
        .integer("compaction.level0-stop", \.compaction.level0Stop, 3...512),
        .size("compaction.base-bytes", \.compaction.baseBytes, 16 * kiB...tiB),
        .integer("compaction.multiplier", \.compaction.multiplier, 2...100),
        .size("compaction.table-bytes", \.compaction.tableBytes, 4 * kiB...2 * giB),
        .integer("compaction.threads", \.compaction.threads, 1...64),
        .choice("compaction.strategy", \.compaction.strategy),
        .flag("compaction.dynamic-levels", \.compaction.sizesLevelsDynamically),
        .size("compaction.fifo-bytes", \.compaction.fifoBytes, 0...1024 * tiB),
        .duration("compaction.fifo-age", \.compaction.fifoAgeMilliseconds, 0...decade),
        .size("compaction.bytes-per-second", \.compaction.bytesPerSecond, 0...tiB),
        .integer("compaction.tombstone-percent", \.compaction.tombstonePercent, 0...100),
        .integer("compaction.space-percent", \.compaction.spacePercent, 0...10_000),
        .duration("compaction.rewrite-after", \.compaction.rewriteAfterMilliseconds, 0...decade),
        .integer("compaction.fruitless-reads", \.compaction.fruitlessReads, 0...1_000_000_000),
        .integer("compaction.blob-dead-percent", \.compaction.blobDeadPercent, 0...100),
        .integer("compaction.blob-age-percent", \.compaction.blobAgePercent, 0...100),
        .flag("heal.auto-heal", \.heal.isAutomatic),
        .choice("heal.source", \.heal.source),
        .flag("heal.keep-evidence", \.heal.keepsEvidence),
    ]

    private static let cluster: [SettingDefinition] = [
        .duration("raft.election-timeout", \.raft.electionTimeoutMilliseconds, 50...minute),
        .duration("raft.heartbeat-interval", \.raft.heartbeatMilliseconds, 5...minute / 3),
        SettingDefinition(
            key: "raft.preferred-leader", allowed: "none, or the id of a member",
            apply: { (text, _, configuration) throws(SettingProblem) in
                let id = text == "none" ? 0 : try SettingParsing.integer(text, 1...Int.max)
                configuration.raft.preferredLeader = MemberID(UInt64(id))
            },
            show: { configuration in
                let preferred = configuration.raft.preferredLeader
                return preferred == .none ? "none" : preferred.description
            }),
        .duration("read.lease", \.read.leaseMilliseconds, 0...10_000),
        .duration("read.lease-drift", \.read.leaseDriftMilliseconds, 1...1_000),
        .duration("clock.max-offset", \.clock.offsetMaxMilliseconds, 10...minute),
    ]

    private static let edge: [SettingDefinition] = [
        .integer("client.connections-max", \.client.connectionsMax, 1...1_000_000),
        .size("client.value-bytes-max", \.client.valueBytesMax, kiB...UInt64(Limits.valueBytesMax)),
        .integer("client.pipeline-commands-max", \.client.pipelineCommandsMax, 1...1_000_000),
        .size("client.pipeline-bytes-max", \.client.pipelineBytesMax, 64 * kiB...4 * giB),
        .size("client.input-bytes-max", \.client.inputBytesMax, 64 * kiB...4 * giB),
        .size("client.output-bytes-max", \.client.outputBytesMax, 64 * kiB...4 * giB),
        .size("client.output-total-bytes-max", \.client.outputTotalBytesMax, 64 * kiB...tiB),
        .duration("client.staleness", \.client.stalenessMilliseconds, 100...60 * minute),
        .integer("client.threads", \.client.threads, 0...256),
        .choice("logging.level", \.logging.level),
    ]
}
