// Where a group's files are, and what they are called (DESIGN: files of a node).

package struct StoreFiles: Sendable {
    package let fileSystem: any FileSystem
    /// `<data>/group-0`
    package let directory: String
    /// What they are encrypted with.
    package let keys: KeyRing

    package init(fileSystem: any FileSystem, directory: String, keys: KeyRing = .plain) {
        self.fileSystem = fileSystem
        self.directory = directory
        self.keys = keys
    }

    package var tables: String { directory + "/sst" }
    package var staged: String { directory + "/staged" }
    package var quarantine: String { directory + "/quarantine" }
    package var log: String { directory + "/log" }
    package var hardState: String { directory + "/state" }
    package var peers: String { directory + "/peers" }
    package var jobs: String { directory + "/jobs" }
    package var hints: String { directory + "/hints" }
    package var ledger: String { directory + "/ledger" }
    package var reserve: String { directory + "/reserve" }
    package var scrub: String { directory + "/scrub" }

    /// Makes the directories, durably.
    package func create() throws(FileError) {
        for path in [directory, tables, staged, quarantine, log] {
            try fileSystem.createDirectory(path)
        }
    }

    /// What no file in `quarantine/` is called: `name`, or `name` with a number behind it.
    func freeQuarantineName(_ name: String) -> String {
        var candidate = name
        var number = 0
        while fileSystem.exists(quarantine + "/" + candidate) {
            number += 1
            candidate = "\(name).\(number)"
        }
        return candidate
    }

    /// Table files that `isKept` does not claim, and everything staged: leftovers of a crash.
    package func removeOrphans(isKept: (String) -> Bool) throws(FileError) {
        for name in try fileSystem.list(staged) { try fileSystem.unlink(staged + "/" + name) }
        for name in try fileSystem.list(tables) where !isKept(name) {
            try fileSystem.unlink(tables + "/" + name)
        }
    }
}
