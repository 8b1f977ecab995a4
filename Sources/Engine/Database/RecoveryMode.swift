// How an open takes what a crash or a disk has left, for a database that has no replica to ask.

/// What opening does about what it does not expect.
public enum RecoveryMode: String, Sendable, CaseIterable {
    /// Refuses, and changes nothing but the count of starts, unless everything is as an orderly end
    /// leaves it or a crash between two writes: no torn append, no lost copy, no damaged byte.
    /// Reads every table once.
    case strict
    /// Cuts what was written and never acknowledged, mends copies from each other, and marks
    /// damaged tables, which then serve what they can. Refuses if an acknowledged write is lost.
    case normal
    /// As `normal`, but serves the writes before the first lost one. What was behind it is kept
    /// under `quarantine/`, and is not applied.
    case pointInTime
}

/// What `.strict` looks at besides manifest, hard state and log, which look at themselves.
enum StrictCheck {
    /// Before anything is opened.
    static func checkFiles(_ files: StoreFiles) throws(EngineError) {
        // A directory gets its hard state before anything else.
        guard files.fileSystem.exists(files.hardState) else {
            throw .corrupt(file: "state", reason: "it is missing" + remedy)
        }
        // One after the other: to open the last one makes it if it is missing.
        try refuse("hints", HealHints.damage(files.fileSystem, path: files.hints))
        try refuse("ledger", Ledger.damage(files.fileSystem, path: files.ledger))
        try refuse("jobs", try JobAttempts.open(files.fileSystem, path: files.jobs).damage)
    }

    private static func refuse(_ file: String, _ damage: FileDamage?) throws(EngineError) {
        guard let damage else { return }
        throw .corrupt(file: file, offset: damage.offset, reason: damage.reason + remedy)
    }

    /// Reads every byte of every table.
    static func check(_ tables: TableDirectory) throws(EngineError) {
        for handle in tables.all {
            let found = try handle.reader(io: .blocking, mending: false).verify(fromMedium: false)
            guard !found.isClean else { continue }
            throw .corrupt(
                file: "sst/" + handle.fileName, offset: found.firstOffset,
                reason: found.texts.prefix(3).joined(separator: "; ") + remedy)
        }
    }

    static let remedy = " (the recovery mode is strict; normal would go on)"
}
