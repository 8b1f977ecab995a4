// One embedded database that is struck again and again, at any step of anything: no acknowledged
// write is lost, and what comes back is a state that was. MARTLET_ROUNDS sets how often.
import Engine
import Testing

@Suite struct DatabasePowerCutTests {
    private static let rounds = scaled("MARTLET_ROUNDS", full: 1_000, usual: 60)

    @Test(arguments: [DatabaseOptions.Sync.always, .never], [0, 12] as [UInt32])
    func `A database survives power cuts`(
        sync: DatabaseOptions.Sync, blobThreshold: UInt32
    ) throws {
        let seed: UInt64 = (sync == .always ? 21 : 22) + (blobThreshold > 0 ? 2 : 0)
        var options = DatabaseRig.smallOptions(sync: sync)
        options.settings.blobThreshold = blobThreshold
        options.settings.blobFileBytes = 2048
        let rig = try DatabaseRig(seed: seed, options)
        let run = OracleRun(rig, seed: seed, isSynced: sync == .always, keys: 300)
        do {
            for _ in 0..<DatabasePowerCutTests.rounds { try run.crash() }
        } catch {
            Issue.record("round \(run.crashes): \(error); notes: \(rig.notes.all.suffix(5))")
        }
        #expect(run.crashes == DatabasePowerCutTests.rounds)
        #expect(run.writes > run.crashes)
    }
}
