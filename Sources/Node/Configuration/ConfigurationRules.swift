// Rules between settings, checked once all are known. Each names the keys that contradict.
import Engine

enum ConfigurationRules {
    static func problems(of configuration: NodeConfiguration) -> [ConfigurationProblem] {
        var problems: [ConfigurationProblem] = []
        if configuration.dataDirectory.isEmpty {
            problems.append(
                .init(key: "data.directory", "is not set; say where this node keeps its data"))
        }
        if configuration.clusterID.hasPrefix(NodeIdentity.embeddedPrefix) {
            problems.append(
                .init(
                    key: "cluster.id",
                    "\(configuration.clusterID) starts with \(NodeIdentity.embeddedPrefix), which"
                        + " is for databases inside of other programs"))
        }
        problems += listenProblems(configuration)
        problems += memberProblems(configuration)
        problems += clusterProblems(configuration)
        problems += storageProblems(configuration)
        problems += encryptionProblems(configuration.encryption)
        return problems
    }

    private static func listenProblems(_ configuration: NodeConfiguration)
        -> [ConfigurationProblem]
    {
        let listen = configuration.listen
        let ports = [
            ("listen.resp-port", listen.respPort), ("listen.peer-port", listen.peerPort),
            ("listen.http-port", listen.httpPort),
        ].filter { $0.1 != 0 }
        var problems: [ConfigurationProblem] = []
        for (place, port) in ports.enumerated() {
            for other in ports[..<place] where other.1 == port.1 {
                problems.append(.init(key: port.0, "is \(port.1), and so is \(other.0)"))
            }
        }
        return problems
    }

    private static func memberProblems(_ configuration: NodeConfiguration)
        -> [ConfigurationProblem]
    {
        let members = configuration.members
        guard !members.isEmpty else { return [] }
        var problems: [ConfigurationProblem] = []
        if members.count > Limits.members {
            problems.append(
                .init(key: "members", "names \(members.count) members, above \(Limits.members)"))
        }
        var ids: Set<MemberID> = []
        var addresses: Set<String> = []
        for member in members {
            if !ids.insert(member.id).inserted {
                problems.append(.init(key: "members", "names id \(member.id) twice"))
            }
            for address in [member.peer, member.client]
            where !addresses.insert(address).inserted {
                problems.append(.init(key: "members", "names address \(address) twice"))
            }
        }
        if !ids.contains(configuration.nodeID) {
            problems.append(
                .init(
                    key: "members",
                    "does not name node.id \(configuration.nodeID); list every member, this node"
                        + " among them"))
        }
        return problems
    }

    private static func clusterProblems(_ configuration: NodeConfiguration)
        -> [ConfigurationProblem]
    {
        var problems: [ConfigurationProblem] = []
        if configuration.isCluster {
            for (key, path) in [
                ("tls.ca", configuration.tls.ca),
                ("tls.certificate", configuration.tls.certificate),
                ("tls.key", configuration.tls.key),
            ] where path.isEmpty {
                problems.append(
                    .init(key: key, "is not set; members talk over mutual TLS only"))
            }
            if configuration.log.sync != .always {
                problems.append(
                    .init(
                        key: "log.sync",
                        "\(configuration.log.sync.rawValue) is for a cluster of one; a member"
                            + " acknowledges only what is durable"))
            }
        }
        let raft = configuration.raft
        let (heartbeat, election) = (raft.heartbeatMilliseconds, raft.electionTimeoutMilliseconds)
        if heartbeat * 3 > election {
            problems.append(
                .init(
                    key: "raft.heartbeat-interval",
                    "\(SettingParsing.format(milliseconds: heartbeat)) is more than a third of"
                        + " raft.election-timeout"
                        + " (\(SettingParsing.format(milliseconds: election)))"
                ))
        }
        return problems + leadershipProblems(configuration)
    }

    private static func leadershipProblems(_ configuration: NodeConfiguration)
        -> [ConfigurationProblem]
    {
        var problems: [ConfigurationProblem] = []
        let (lease, drift) = (
            configuration.read.leaseMilliseconds, configuration.read.leaseDriftMilliseconds
        )
        let election = configuration.raft.electionTimeoutMilliseconds
        if lease > 0, lease <= drift {
            problems.append(
                .init(
                    key: "read.lease",
                    "\(SettingParsing.format(milliseconds: lease)) is not above read.lease-drift"
                        + " (\(SettingParsing.format(milliseconds: drift)))"))
        }
        if lease >= election {
            problems.append(
                .init(
                    key: "read.lease",
                    "\(SettingParsing.format(milliseconds: lease)) is not below"
                        + " raft.election-timeout"
                        + " (\(SettingParsing.format(milliseconds: election)))"))
        }
        let preferred = configuration.raft.preferredLeader
        if preferred != .none,
            !configuration.membership.members.contains(where: { $0.id == preferred })
        {
            problems.append(
                .init(key: "raft.preferred-leader", "\(preferred) is none of the members"))
        }
        return problems
    }

    private static func encryptionProblems(
        _ encryption: NodeConfiguration.EncryptionSettings
    ) -> [ConfigurationProblem] {
        var problems: [ConfigurationProblem] = []
        if !encryption.keyFile.isEmpty, !encryption.keyCommand.isEmpty {
            problems.append(
                .init(
                    key: "encryption.key-command",
                    "is set, and so is encryption.key-file; there is one current key"))
        }
        let isTaken = encryption.previousKeys.contains { $0.epoch == encryption.keyEpoch }
        if encryption.hasCurrentKey, isTaken {
            problems.append(
                .init(
                    key: "encryption.previous-keys",
                    "names epoch \(encryption.keyEpoch), which is encryption.key-epoch; raise that"
                        + " for a new key"))
        }
        return problems
    }

    private static func storageProblems(_ configuration: NodeConfiguration)
        -> [ConfigurationProblem]
    {
        var problems: [ConfigurationProblem] = []
        let log = configuration.log
        if log.retainBytes < 2 * log.segmentBytes {
            problems.append(
                .init(
                    key: "log.retain-bytes",
                    "\(SettingParsing.format(size: log.retainBytes)) is less than two segments of"
                        + " log.segment-bytes (\(SettingParsing.format(size: log.segmentBytes)))"))
        }
        if configuration.memory.bytes > 0, configuration.memory.bytes < 2 * log.segmentBytes {
            problems.append(
                .init(
                    key: "memory.bytes",
                    "\(SettingParsing.format(size: configuration.memory.bytes)) does not hold two"
                        + " memtables of log.segment-bytes"
                        + " (\(SettingParsing.format(size: log.segmentBytes)))"))
        }
        problems += compactionProblems(configuration.compaction)
        problems += clientProblems(configuration.client)
        return problems
    }

    private static func compactionProblems(_ compaction: NodeConfiguration.CompactionSettings)
        -> [ConfigurationProblem]
    {
        var problems: [ConfigurationProblem] = []
        let (trigger, slowdown) = (compaction.level0Trigger, compaction.level0Slowdown)
        if slowdown <= trigger {
            problems.append(
                .init(
                    key: "compaction.level0-slowdown",
                    "\(slowdown) is not above compaction.level0-trigger (\(trigger))"))
        }
        if compaction.level0Stop <= slowdown {
            problems.append(
                .init(
                    key: "compaction.level0-stop",
                    "\(compaction.level0Stop) is not above compaction.level0-slowdown"
                        + " (\(slowdown))"))
        }
        if compaction.strategy == .fifo, compaction.fifoBytes == 0,
            compaction.fifoAgeMilliseconds == 0
        {
            problems.append(
                .init(
                    key: "compaction.strategy",
                    "fifo needs compaction.fifo-bytes or compaction.fifo-age"))
        }
        if compaction.strategy != .leveled {
            let leveledOnly = [
                ("compaction.tombstone-percent", compaction.tombstonePercent > 0),
                ("compaction.rewrite-after", compaction.rewriteAfterMilliseconds > 0),
                ("compaction.fruitless-reads", compaction.fruitlessReads > 0),
                ("compaction.dynamic-levels", compaction.sizesLevelsDynamically),
            ]
            for (key, isSet) in leveledOnly where isSet {
                problems.append(
                    .init(
                        key: key,
                        "does nothing with compaction.strategy"
                            + " \(compaction.strategy.rawValue)"))
            }
        }
        if (1..<CompactionPacer.bytesPerSecondMin).contains(compaction.bytesPerSecond) {
            problems.append(
                .init(
                    key: "compaction.bytes-per-second",
                    "\(SettingParsing.format(size: compaction.bytesPerSecond)) is less than 1MiB;"
                        + " 0 is no bound"))
        }
        return problems
    }

    private static func clientProblems(_ client: NodeConfiguration.ClientSettings)
        -> [ConfigurationProblem]
    {
        var problems: [ConfigurationProblem] = []
        if client.inputBytesMax < client.valueBytesMax + UInt64(Limits.keyBytes) {
            problems.append(
                .init(
                    key: "client.input-bytes-max",
                    "\(SettingParsing.format(size: client.inputBytesMax)) does not hold one value"
                        + " of client.value-bytes-max"
                        + " (\(SettingParsing.format(size: client.valueBytesMax))) and its key"))
        }
        if client.outputTotalBytesMax < client.outputBytesMax {
            problems.append(
                .init(
                    key: "client.output-total-bytes-max",
                    "\(SettingParsing.format(size: client.outputTotalBytesMax)) does not hold one"
                        + " reply of client.output-bytes-max"
                        + " (\(SettingParsing.format(size: client.outputBytesMax)))"))
        }
        return problems
    }
}
