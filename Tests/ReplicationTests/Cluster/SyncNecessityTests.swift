// Every kind of sync on the path from an append to an installed compaction is needed on a whole
// node: a run on a disk that ignores a single sync of the kind promises something that a power cut
// then takes away. Which moments a cut hits is left to chance here; that each single sync of the log,
// of the hard state and of the database is needed is the subject of the engine's own tests.
//
// One node runs the same seed again and again, each time with another sync left out. From that
// moment on copies of its disk, as power cuts would leave them, are opened and held to what was
// acknowledged. The two copies of the manifest stand in for each other, so their syncs are left
// out together here; that each alone is needed is the manifest file's own test. Not looked at: the
// spare log file (only speed depends on it), `state`, `jobs`, `hints` and `ledger` (own tests).
import Engine
import Replication
import Simulation
import Testing

@Suite struct SyncNecessityTests {
    @Test func everyKindOfSyncFromAppendToInstallIsNeeded() throws {
        let reference = makeCluster()
        let files = try #require(reference.process(0)).files
        let first = reference.disks[0].syncCount + 1
        reference.run(milliseconds: SyncNecessityTests.milliseconds)
        reference.report()
        let syncs = files.syncs.filter { $0.number >= first }
        var counts: [String: (looked: Int, needed: Int)] = [:]
        for kind in ["append", "table", "table names", "manifest", "log names"] {
            let all = syncs.filter { $0.kind == kind }
            // In debug a few of each kind; all of them in the full run.
            let step = SimulationScale.isFull ? 1 : max(1, all.count / 4)
            for sync in all.enumerated() where sync.offset % step == 0 {
                counts[kind, default: (0, 0)].looked += 1
                if findLoss(leavingOut: sync.element) != nil {
                    counts[kind, default: (0, 0)].needed += 1
                }
            }
        }
        for kind in ["append", "table", "table names", "manifest"] {
            #expect((counts[kind]?.needed ?? 0) > 0, "\(kind): \(counts)")
        }
    }

    @Test func theFullRunLosesNothing() {
        let cluster = makeCluster()
        for _ in 0..<(SyncNecessityTests.milliseconds / 25) where !cluster.oracle.hasViolations {
            cluster.run(milliseconds: 25)
            for _ in 0..<2 {
                if let loss = lossAfterPowerCut(of: cluster) { cluster.oracle.violation(loss) }
            }
        }
        cluster.report()
    }

    private static let milliseconds: UInt64 = 2_500

    private func makeCluster() -> SimulatedCluster {
        var settings = ClusterSettings(seed: 5, nodeCount: 1)
        settings.logged.segmentBytes = 8 << 10
        settings.electionTimeoutMilliseconds = 60
        settings.heartbeatMilliseconds = 20
        let cluster = SimulatedCluster(settings)
        cluster.run(milliseconds: 300)
        cluster.clients.start(writers: 2, readers: 0, pauseMilliseconds: 24)
        return cluster
    }

    /// What goes wrong without this sync; nil if nothing does.
    private func findLoss(leavingOut sync: SyncRecord) -> String? {
        let cluster = makeCluster()
        cluster.disks[0].skipSync =
            sync.kind == "manifest" ? [sync.number, sync.number + 1] : [sync.number]
        while cluster.now < sync.time { cluster.run(milliseconds: sync.time - cluster.now) }
        for _ in 0..<60 {
            for _ in 0..<3 {
                if let loss = lossAfterPowerCut(of: cluster) { return loss }
            }
            cluster.run(milliseconds: 1)
        }
        return nil
    }

    // MARK: Looking at a copy

    private func lossAfterPowerCut(of cluster: SimulatedCluster) -> String? {
        let copy = cluster.disks[0].snapshotAfterPowerCut()
        let runner = IdleRunner()
        do throws(EngineError) {
            let opened = try OpenedReplica.open(
                StoreConfiguration(
                    files: StoreFiles(fileSystem: copy, directory: "data/group-0"),
                    identity: ManifestIdentity(
                        genesis: logGenesis(cluster: "simulated", group: 0), group: 0,
                        node: MemberID(1)),
                    options: cluster.settings.store, jobs: runner,
                    healEnvironment: HealEnvironment(
                        clock: { 0 }, wake: {}, note: { _ in }, halt: { _ in })),
                log: LogOptions(), nonce: 1)
            return try loss(in: opened, cluster)
        } catch { return "it does not open: \(error)" }
    }

    private func loss(in opened: OpenedReplica, _ cluster: SimulatedCluster) throws(EngineError)
        -> String?
    {
        guard opened.recovery.holes.isEmpty else { return "the log has holes" }
        let store = opened.store
        let committed = cluster.oracle.committed
        while store.applied < min(opened.log.last.index, committed) {
            for entry in try opened.log.entries(from: store.applied + 1, maxBytes: 1 << 20)
            where entry.index <= committed {
                store.apply(entry)
            }
        }
        guard store.applied >= cluster.clients.floor else {
            return
                "entry \(cluster.clients.floor) was acknowledged; the log ends at \(store.applied)"
        }
        guard cluster.oracle.position(at: store.applied) == store.appliedTail.position else {
            return "another entry is at \(store.applied)"
        }
        if cluster.oracle.root(at: store.frontier).map({ $0 != store.stateRoot }) ?? false {
            return "another manifest at \(store.frontier)"
        }
        let now = cluster.wall(of: 0)
        let found = try store.scan(
            .everything, reverse: false, limit: .max, limitBytes: .max, now: now)
        let expected = cluster.oracle.model.content(at: store.applied, now: now)
        return found.map { $0.key } == expected.map { $0.key }
            && found.map { $0.value.value } == expected.map { $0.value }
            ? nil : "the content differs"
    }
}

/// Runs nothing.
private final class IdleRunner: JobRunner {
    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {}
}
