// `martlet manifest rebuild`: the last resort for a database whose manifest is lost in both copies
// and that has no replica. Offline. A node of a cluster takes the record from a peer by itself.
import ArgumentParser
import Engine

package struct ManifestRebuildCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "rebuild",
        abstract: "Make a lost manifest anew from tables and log.",
        discussion: """
            The last resort, when both copies of the manifest are lost and no replica has its \
            record; a node of a cluster asks its peers by itself. As far as the log names the \
            tables the manifest is what it was; else all tables go to level 0, and a table that a \
            compaction had replaced and a crash had left may bring back what was deleted since. \
            What is no part of the database moves to quarantine/. Where something may be missing \
            without an error at its place, nothing is written and the exit code is 65, unless \
            --force is given. Tables that the log names and that cannot be read stay in the \
            manifest, so that reads of their ranges fail; the exit code is then 65, too.
            """)

    @Option(help: ArgumentHelp("The data directory.", valueName: "directory"))
    var dir: String

    @Flag(help: "Write the manifest even if something may be missing unnoticed.")
    var force = false

    @Flag(help: "The directory's node is the only one of its cluster.")
    var alone = false

    @OptionGroup var key: KeyOption

    package init() {}

    package func run() throws {
        let keys = try key.ring()
        let result = try SSTCommand.inspect { () throws(EngineError) in
            try ManifestRebuild.run(
                POSIXFileSystem(), path: dir, keys: keys, isAlone: alone, isForced: force)
        }
        ProcessExit.printLine(ManifestRebuildText.text(result, dir))
        guard result.isWritten else {
            throw NodeFailure(.damage, "\(dir): nothing was written; --force goes on all the same")
        }
        guard result.absent.isEmpty || force else {
            throw NodeFailure(.damage, "\(dir): \(result.absent.count) tables are lost")
        }
    }
}

/// A rebuild as text.
package enum ManifestRebuildText {
    package static func text(_ result: ManifestRebuild, _ directory: String) -> String {
        let held = result.tables.count - result.absent.count
        var lines = [
            "\(directory): " + (result.isWritten ? "written" : "not written")
                + ", \(held) tables, log replayed behind entry \(result.flushed)",
            result.isExact
                ? "tables and levels are those that the log names"
                : "last resort: all tables in level 0; deleted values may be back",
        ]
        for table in result.absent {
            lines.append(
                "lost: table \(table.id), keys from \(InspectionText.quote(table.span.start)) to "
                    + (table.span.end.map { InspectionText.quote($0) } ?? "the last"))
        }
        for file in result.unreadable { lines.append("unreadable: \(file.file): \(file.reason)") }
        for file in result.setAside {
            lines.append((result.isWritten ? "in quarantine/: " : "no part of it: ") + file)
        }
        lines += result.doubts.map { "may be missing: \($0)" }
        return lines.joined(separator: "\n")
    }
}
