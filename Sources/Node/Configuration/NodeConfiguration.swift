// Everything a node can be told. A plain value: the loader fills it, the runtime reads it, nobody
// changes it afterwards. Defaults hold for a node that says nothing but where its data is; ranges
// are in `SettingCatalog`, rules between settings in `ConfigurationRules`.
// Settings that shape bytes (segment, block, filter) only seed the log's first `settings` entry.
import Engine

package struct NodeConfiguration: Sendable, Equatable {
    /// Name of the cluster: part of every certificate and of the log's first hash.
    package var clusterID = "martlet"
    package var nodeID = MemberID(1)
    /// Absolute, or relative to the working directory. Empty means "not set".
    package var dataDirectory = ""
    package var listen = Listen()
    /// The cluster's members; empty means a cluster of this node alone.
    package var members: [ConfiguredMember] = []
    package var tls = TLSFiles()
    package var log = LogSettings()
    package var table = TableSettings()
    package var memtable = MemtableSettings()
    package var history = HistorySettings()
    package var cache = CacheSettings()
    package var memory = MemorySettings()
    package var space = SpaceSettings()
    package var compaction = CompactionSettings()
    package var heal = HealSettings()
    package var encryption = EncryptionSettings()
    package var raft = RaftSettings()
    package var read = ReadSettings()
    package var clock = ClockSettings()
    /// The node's data was lost, and it comes back without it: of one start, no setting.
    package var rejoins = false

    func rejoining(_ rejoins: Bool) -> NodeConfiguration {
        var configuration = self
        configuration.rejoins = rejoins
        return configuration
    }
    package var client = ClientSettings()
    package var logging = LoggingSettings()

    package init() {}
}

extension NodeConfiguration {
    package struct Listen: Sendable, Equatable {
        package var host = "127.0.0.1"
        /// 0 lets the system choose.
        package var respPort = 7379
        package var peerPort = 7380
        package var httpPort = 7381
    }

    package struct ConfiguredMember: Sendable, Equatable {
        package var id: MemberID
        /// host:port of its peer listener.
        package var peer: String
        /// host:port of its RESP listener, as `ROLE` and `INFO` name it.
        package var client: String

        package init(id: MemberID, peer: String, client: String) {
            self.id = id
            self.peer = peer
            self.client = client
        }
    }

    /// Paths of PEM files. Needed as soon as there is a second member.
    package struct TLSFiles: Sendable, Equatable {
        package var ca = ""
        package var certificate = ""
        package var key = ""
    }

    package enum LogSync: String, Sendable, CaseIterable {
        /// Every commit is on the medium first.
        case always
        /// The system writes when it likes; a power cut loses the tail. Only without replicas.
        case never
    }

    package struct LogSettings: Sendable, Equatable {
        package var sync = LogSync.always
        package var segmentBytes: UInt64 = 64 << 20
        package var retainBytes: UInt64 = 8 << 30
    }

    package struct TableSettings: Sendable, Equatable {
        package var blockBytes: UInt64 = 4096
        /// Of single levels.
        package var blockLevels: [LevelBlockBytes] = []
        /// Values of so many bytes go to blob files; 0 keeps all with their keys.
        package var blobThreshold: UInt64 = 0
        package var blobFileBytes: UInt64 = 64 << 20
        package var filter = FilterSettings()
        package var compression = CompressionPolicy.lz4
    }

    package struct MemtableSettings: Sendable, Equatable {
        /// Segments whose entries may be in memory at once, the active one among them. At the bound
        /// writes wait for a flush.
        package var segmentsMax = 4
    }

    package struct HistorySettings: Sendable, Equatable {
        /// How long versions are kept for reads as of an earlier sequence; the leader's counts.
        package var windowMilliseconds: UInt64 = 0
    }

    package struct CacheSettings: Sendable, Equatable {
        package var bytes: UInt64 = 128 << 20
        /// For single rows beside the blocks; 0 keeps none.
        package var rowBytes: UInt64 = 0
    }

    package struct MemorySettings: Sendable, Equatable {
        /// For memtables and caches together; 0 bounds each alone.
        package var bytes: UInt64 = 0
    }

    package struct SpaceSettings: Sendable, Equatable {
        /// Free bytes of the disk below which writes are refused, deletes excepted; 0 never
        /// refuses, nil chooses by the disk's size.
        package var lowBytes: UInt64?
    }

    package struct CompactionSettings: Sendable, Equatable {
        /// Level-0 tables that make a job worth while.
        package var level0Trigger = 4
        /// Level-0 tables, stand-ins among them, at which writers are slowed.
        package var level0Slowdown = 20
        /// Level-0 tables, stand-ins among them, at which writers wait.
        package var level0Stop = 36
        /// Target size of level 1.
        package var baseBytes: UInt64 = 256 << 20
        /// Each level's target size is this many times the one above it.
        package var multiplier = 10
        /// Canonical bytes at which a job starts its next table.
        package var tableBytes: UInt64 = 64 << 20
        package var threads = 2
        package var strategy = CompactionChoice.leveled
        /// Targets follow from the deepest level, not from `baseBytes` down.
        package var sizesLevelsDynamically = false
        /// With `fifo`: what all tables may hold together; 0 is no bound.
        package var fifoBytes: UInt64 = 0
        /// With `fifo`: how long a leader lets a table live; 0 is no bound.
        package var fifoAgeMilliseconds: UInt64 = 0
        /// What compactions write each second at most; 0 is no bound.
        package var bytesPerSecond: UInt64 = 0
        /// Percent of deletes in a table that make a job worth while; 0 is none.
        package var tombstonePercent = 0
        /// Percent of what the deepest level holds that those above it may hold; 0 is no bound.
        package var spacePercent = 0
        /// Age at which a table is written anew; 0 is none.
        package var rewriteAfterMilliseconds: UInt64 = 0
        /// Reads that find nothing in a table before it is merged with what is below; 0 never does.
        package var fruitlessReads = 0
        /// Percent of a blob file that must be dead for it to be collected; 0 never does.
        package var blobDeadPercent = 25
        /// Percent of those files, the oldest, that are collected at a time.
        package var blobAgePercent = 25
    }

    package enum CompactionChoice: String, Sendable, CaseIterable {
        case leveled
        case sizeTiered = "size-tiered"
        case fifo
    }

    package enum HealSource: String, Sendable, CaseIterable {
        case auto
        case local
        case replica
    }

    package struct HealSettings: Sendable, Equatable {
        package var isAutomatic = true
        package var source = HealSource.auto
        package var keepsEvidence = false
    }

    package struct RaftSettings: Sendable, Equatable {
        package var electionTimeoutMilliseconds: UInt64 = 500
        package var heartbeatMilliseconds: UInt64 = 75
        /// Is handed leadership when it is heard and up to date; `.none`: nobody is preferred.
        package var preferredLeader = MemberID.none
    }

    package struct ClockSettings: Sendable, Equatable {
        package var offsetMaxMilliseconds: UInt64 = 500
    }

    package struct ReadSettings: Sendable, Equatable {
        /// For so long a leader serves reads without asking the others; 0: it always asks. All
        /// members have to agree on it.
        package var leaseMilliseconds: UInt64 = 0
        /// By so much two members' clocks may drift apart during a lease.
        package var leaseDriftMilliseconds: UInt64 = 15
    }

    package struct ClientSettings: Sendable, Equatable {
        package var connectionsMax = 10_000
        package var valueBytesMax = UInt64(Limits.valueBytes)
        /// Commands and bytes of one connection that are read ahead of the one in execution.
        package var pipelineCommandsMax = 16_384
        package var pipelineBytesMax: UInt64 = 16 << 20
        /// Unexecuted input of all connections.
        package var inputBytesMax: UInt64 = 512 << 20
        /// One reply.
        package var outputBytesMax: UInt64 = 64 << 20
        /// Replies that all connections together leave unread.
        package var outputTotalBytesMax: UInt64 = 256 << 20
        /// Age that a read under `READONLY` may have.
        package var stalenessMilliseconds: UInt64 = 5000
        /// Event loops that serve clients; 0: two, or on a machine of at most two processors that
        /// of the replica.
        package var threads = 0
    }

    package enum LogLevel: String, Sendable, CaseIterable {
        case trace
        case debug
        case info
        case notice
        case warning
        case error
        case critical
    }

    package struct LoggingSettings: Sendable, Equatable {
        package var level = LogLevel.info
    }
}

extension NodeConfiguration {
    package var isCluster: Bool { members.count > 1 }

    /// The first membership, as the log records it.
    package var membership: Membership {
        guard !members.isEmpty else {
            return Membership([
                Member(
                    id: nodeID, peerAddress: address(listen.peerPort),
                    clientAddress: address(listen.respPort))
            ])
        }
        return Membership(
            members.map { Member(id: $0.id, peerAddress: $0.peer, clientAddress: $0.client) })
    }

    /// The settings that the log's first `settings` entry takes from here.
    package var loggedSettings: LoggedSettings {
        var settings = LoggedSettings()
        settings.segmentBytes = log.segmentBytes
        settings.blockBytes = UInt32(table.blockBytes)
        settings.blockLevels = table.blockLevels
        settings.blobThreshold = UInt32(table.blobThreshold)
        settings.blobFileBytes = table.blobFileBytes
        settings.filter = table.filter.policy(sizeRatio: compaction.multiplier)
        return settings
    }

    private func address(_ port: Int) -> String {
        listen.host.contains(":") ? "[\(listen.host)]:\(port)" : "\(listen.host):\(port)"
    }
}
