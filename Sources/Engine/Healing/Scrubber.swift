// Reads every block of every table past all caches and hints what does not verify. One scrub at a
// time; table after table, each a job of its own, so that flushes and heals go first.
import Synchronization

package struct ScrubStatus: Hashable, Sendable {
    package var isRunning = false
    /// Milliseconds since 1970; 0 before the first scrub.
    package var startedAt: UInt64 = 0
    package var finishedAt: UInt64 = 0
    package var tablesTotal = 0
    package var tablesDone = 0
    package var blocksRead: UInt64 = 0
    package var bytesRead: UInt64 = 0
    package var damagedBlocks: UInt64 = 0
    package var damagedTables = 0

    package init() {}
}

package final class Scrubber: Sendable {
    private let tables: TableDirectory
    private let healer: Healer
    private let files: StoreFiles
    private let jobs: any JobRunner
    private let clock: @Sendable () -> UInt64
    private let state = Mutex(ScrubStatus())

    init(
        tables: TableDirectory, healer: Healer, jobs: any JobRunner,
        clock: @escaping @Sendable () -> UInt64
    ) {
        self.tables = tables
        self.healer = healer
        files = healer.files
        self.jobs = jobs
        self.clock = clock
    }

    package var status: ScrubStatus { state.withLock { $0 } }

    /// Starts a full cycle over the tables that exist now; false if one is running.
    package func start() -> Bool {
        let all = tables.all
        let now = clock()
        let mayStart = state.withLock { status in
            guard !status.isRunning else { return false }
            status = ScrubStatus()
            status.isRunning = true
            status.startedAt = now
            status.tablesTotal = all.count
            return true
        }
        if mayStart { scrub(all[...]) }
        return mayStart
    }

    private func scrub(_ rest: ArraySlice<TableHandle>) {
        guard let handle = rest.first else {
            let now = clock()
            state.withLock {
                $0.isRunning = false
                $0.finishedAt = now
            }
            return
        }
        jobs.submit(.scrub) { [self] in
            scrub(handle)
            scrub(rest.dropFirst())
        }
    }

    private func scrub(_ handle: TableHandle) {
        var damaged: UInt64 = 0
        var blocks: UInt64 = 0
        // An open file proves nothing: its name may be gone.
        if !files.fileSystem.exists(files.tables + "/" + handle.fileName), !handle.isObsolete {
            healer.noteMissing(handle.id)
            damaged = 1
        }
        do throws(EngineError) {
            let path = files.tables + "/" + handle.fileName
            let reader = try handle.reader(io: .blocking)
            let verification = reader.verify(fromMedium: true)
            blocks = UInt64(reader.blockCount)
            damaged = max(damaged, UInt64(verification.damagedBlocks.count))
            for block in verification.damagedBlocks {
                healer.noteDamage(
                    handle.id, block: block.ordinal, reason: block.damage.of(path))
            }
            for damage in verification.localDamage {
                healer.noteDamage(handle.id, block: nil, reason: damage.of(path))
            }
            if !verification.localDamage.isEmpty, damaged == 0 { damaged = 1 }
        } catch {
            damaged = 1
            if case .wrongKey = error {
                healer.noteTrouble("\(error)")
            } else {
                healer.noteDamage(handle.id, block: nil, reason: "\(error)")
            }
        }
        let found = damaged
        let read = blocks
        state.withLock {
            $0.tablesDone += 1
            $0.blocksRead += read
            $0.bytesRead += handle.fileBytes
            $0.damagedBlocks += found
            if found > 0 { $0.damagedTables += 1 }
        }
    }
}
