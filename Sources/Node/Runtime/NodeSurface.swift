// What the administrative surfaces show: HTTP and the `MT.*` reports render the same values, so
// that they carry the same bytes.
import Engine
import Replication
import Synchronization

package final class NodeSurface: AdminSource, AdminInformation {
    private let configuration: NodeConfiguration
    private let replica: ReplicaComponent
    private let fatal: FatalReport
    private let clients = Mutex<SessionEnvironment?>(nil)

    package init(
        _ configuration: NodeConfiguration, replica: ReplicaComponent, fatal: FatalReport
    ) {
        self.configuration = configuration
        self.replica = replica
        self.fatal = fatal
    }

    /// What serves the clients, while it does.
    func attach(_ environment: SessionEnvironment?) { clients.withLock { $0 = environment } }

    private var store: Store? { replica.replica?.store }

    // MARK: AdminSource

    package func status() -> ReplicaStatus {
        replica.replica?.status()
            ?? ReplicaStatus(
                node: configuration.nodeID, role: "follower", term: .zero, leader: .none,
                commit: .zero, durable: .zero, applied: .zero, frontier: .zero, stateRoot: .zero,
                members: [])
    }

    package func tables() -> [TableRow] {
        guard let manifest = store?.manifest else { return [] }
        let records =
            (0..<TableRecord.levelCount).flatMap { manifest.manifest.tables.tables(at: $0) }
            + manifest.manifest.tables.blobs
        return records.map { record in
            let local = manifest.local[record.id]
            let generation = local?.generation ?? 0
            let name = TableHandle.fileName(record.id, generation: UInt64(generation))
            return TableRow(
                id: record.id, level: record.level, generation: UInt64(generation),
                digest: record.digest, bytes: local?.fileBytes ?? 0,
                file: "group-0/sst/\(name)",
                smallest: record.points?.smallest ?? record.span.start,
                largest: record.points?.largest ?? record.span.end ?? [])
        }
    }

    package func ledger(limit: Int) -> [LedgerRow] {
        store?.healer.ledger.rows(limit: limit) ?? []
    }

    /// Committed entries that a ready node may have to apply still.
    private static let readyLagMax: UInt64 = 1_000

    package func failure() -> NodeFailure? { fatal.failure }

    package func readiness() -> Readiness {
        if let failure = fatal.failure { return .notReady(reason: failure.message) }
        guard let replica = replica.replica else {
            return .notReady(reason: "the replica is opening")
        }
        let status = replica.status()
        if let obstacle = status.obstacle { return .notReady(reason: obstacle) }
        guard status.leader != .none else { return .notReady(reason: "no leader is known") }
        let behind = status.commit > status.applied ? status.commit - status.applied : 0
        guard behind <= NodeSurface.readyLagMax else {
            return .notReady(reason: "\(behind) committed entries are not applied yet")
        }
        guard status.role != "leader" || replica.evaluatingTerm != nil else {
            return .notReady(reason: "the leader has not applied its first entry yet")
        }
        return .ready
    }

    private func blobMetrics(_ ledger: BlobLedger) -> [MetricFamily] {
        [
            .gauge(
                "martlet_blob_files", UInt64(ledger.rows.count),
                help: "Blob files of the installed manifest."),
            .gauge(
                "martlet_blob_bytes", ledger.rows.reduce(0) { $0 &+ $1.bytes },
                help: "Bytes of the values in them."),
            .gauge(
                "martlet_blob_live_bytes", ledger.rows.reduce(0) { $0 &+ $1.liveBytes },
                help: "Of these, bytes that tables refer to."),
        ]
    }

    private func rowCacheMetrics(_ use: RowCacheUse?) -> [MetricFamily] {
        guard let use else { return [] }
        return [
            .gauge(
                "martlet_row_cache_bytes", UInt64(clamping: use.bytes),
                help: "Rows kept beside the blocks, and what finds them."),
            .gauge(
                "martlet_row_cache_limit_bytes", UInt64(clamping: use.limitBytes),
                help: "What the row cache may hold now."),
            .counter(
                "martlet_row_cache_hits_total", use.hits,
                help: "Reads of a table that the row cache answered."),
            .counter(
                "martlet_row_cache_misses_total", use.misses,
                help: "Reads of a table that the row cache was asked for in vain."),
        ]
    }

    package func metrics() -> [MetricFamily] {
        var families = PrometheusText.families(of: status())
        if let clients = clients.withLock({ $0 }) {
            families += PrometheusText.families(of: clients)
        }
        guard let store else { return families }
        let counters = store.healer.counters
        let manifest = store.manifest
        let memory = store.memoryUse
        families += [
            .gauge(
                "martlet_memtable_bytes", UInt64(clamping: memory.memtableBytes),
                help: "Memtables, active and waiting for their flush."),
            .gauge(
                "martlet_cache_bytes", UInt64(clamping: memory.cacheBytes),
                help: "Decoded blocks, and what open tables keep decoded."),
            .gauge(
                "martlet_cache_limit_bytes", UInt64(clamping: memory.cacheLimitBytes),
                help: "What the cache of these may hold now."),
        ]
        families += rowCacheMetrics(memory.rowCache)
        families.append(
            MetricFamily(
                "martlet_tables", .gauge, help: "Tables of the installed manifest.",
                samples: (0..<TableRecord.levelCount).map { level in
                    MetricFamily.Sample(
                        Double(manifest.manifest.tables.tables(at: level).count),
                        [MetricFamily.Label("level", String(level))])
                }))
        families += blobMetrics(manifest.manifest.tables.ledger)
        let rows: [(String, String, UInt64)] = [
            ("martlet_heals_total", "Tables healed.", counters.healed),
            (
                "martlet_heals_failed_total", "Heals that failed and are tried again.",
                counters.failed
            ),
            ("martlet_blocks_fetched_total", "Blocks fetched for reads.", counters.blocksFetched),
            ("martlet_blocks_lost_total", "Reads that no replica could mend.", counters.blocksLost),
            (
                "martlet_transient_errors_total", "Damage that a second read did not find.",
                counters.transient
            ),
            (
                "martlet_tables_rekeyed_total", "Tables written anew for a change of key.",
                counters.rotated
            ),
            ("martlet_divergences_total", "Differences between replicas.", counters.divergences),
        ]
        for (name, help, value) in rows {
            families.append(
                MetricFamily(
                    name, .counter, help: help,
                    samples: [MetricFamily.Sample(Double(value))]))
        }
        return families
    }

    // MARK: AdminInformation

    package func statusJSON() -> String { text(AdminJSON.status(status())) }
    package func tablesJSON() -> String { text(AdminJSON.tables(tables())) }
    package func ledgerJSON(limit: Int) -> String { text(AdminJSON.ledger(ledger(limit: limit))) }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    package func startScrub() throws(EngineError) {
        guard let store else { throw .busy(reason: "the replica is opening") }
        guard store.scrubber.start() else { throw .busy(reason: "a scrub is running") }
    }

    package func scrubJSON() -> String {
        let status = store?.scrubber.status ?? ScrubStatus()
        let numbers: [(String, UInt64)] = [
            ("startedAt", status.startedAt), ("finishedAt", status.finishedAt),
            ("tablesTotal", UInt64(status.tablesTotal)),
            ("tablesDone", UInt64(status.tablesDone)), ("blocksRead", status.blocksRead),
            ("bytesRead", status.bytesRead), ("damagedBlocks", status.damagedBlocks),
            ("damagedTables", UInt64(status.damagedTables)),
        ]
        let fields = numbers.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",")
        return "{\"state\":\"\(status.isRunning ? "running" : "idle")\",\(fields)}"
    }

    package func infoRows(_ section: String) -> [InfoRow] {
        guard section == "martlet", let store else { return [] }
        let counters = store.healer.counters
        return [
            InfoRow("tables", String(store.manifest.manifest.tables.count)),
            InfoRow("healed", String(counters.healed)),
            InfoRow("blocks_fetched", String(counters.blocksFetched)),
        ]
    }

    package func settings() -> [InfoRow] {
        SettingCatalog.all.map { InfoRow($0.key, $0.show(configuration)) }
    }

    package func clientAddress(of member: MemberID) -> (host: String, port: Int)? {
        let membership =
            store.map {
                $0.manifest.membership.members.isEmpty
                    ? configuration.membership : $0.manifest.membership
            }
            ?? configuration.membership
        guard let address = membership.member(member)?.clientAddress,
            let parsed = HostAndPort(address)
        else { return nil }
        return (parsed.host, parsed.port)
    }
}
