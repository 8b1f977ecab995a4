// `martlet sst salvage`: the last resort for a table that nobody can mend, offline. The node's own
// way is a heal from a replica; a salvaged table that lost something has another digest, so no node
// takes it for the one it should have.
import ArgumentParser
import Engine

package struct SSTSalvageCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "salvage",
        abstract: "Copy the good blocks of a damaged table file into a new one.",
        discussion: """
            The last resort, when no replica has the table: a node heals damaged tables from its \
            peers by itself. Says how many blocks were lost, and the keys between which they lay; \
            lost deletes may bring older values back. Never overwrites a file. Exits with 0 if the \
            new file holds everything, and with 65 if something was lost, though what is left was \
            written, or if there was nothing to copy. The new file is read with the other \
            commands of this group. A node takes it only if nothing was lost, so that it has the \
            digest of the original, and removes it from its directory of tables otherwise. Of an \
            encrypted file, which needs --key-file, the new one is encrypted under the same key.
            """)

    @Argument(help: "The damaged .sst file.")
    var file: String

    @Option(
        help: ArgumentHelp(
            "The file to write, which must not exist; by default FILE's name with .salvaged "
                + "behind it, in the current directory.",
            valueName: "file"))
    var output: String?

    @OptionGroup var key: KeyOption

    @Flag(help: "One JSON object; keys in base64.")
    var json = false

    package init() {}

    package func run() throws {
        let target = try SSTSalvageCommand.target(output, for: file)
        let keys = try key.ring()
        let report = try SSTCommand.inspect { () throws(EngineError) in
            try TableSalvage.run(POSIXFileSystem(), from: file, to: target, keys: keys)
        }
        ProcessExit.printLine(
            json ? SalvageText.json(report, target) : SalvageText.text(report, target))
        guard report.isWhole else {
            throw NodeFailure(.damage, "\(file): not everything could be salvaged")
        }
    }

    /// Not in a node's own directory, which is cleared of files that no manifest names.
    package static func target(_ output: String?, for file: String) throws(NodeFailure) -> String {
        let name = file.split(separator: "/").last.map { String($0) } ?? file
        let target = output ?? name + ".salvaged"
        let directory = parentDirectory(of: target)
        guard !POSIXFileSystem().exists(directory + "/../CURRENT") else {
            throw NodeFailure(
                .usage,
                "\(directory) belongs to a node, which removes what it does not know from it;"
                    + " name a file elsewhere with --output")
        }
        return target
    }
}

/// A salvage as text.
package enum SalvageText {
    package static func text(_ report: SalvageReport, _ output: String) -> String {
        let total = report.blocksTaken + report.blocksLost
        let expected = report.entriesExpected.map { " of \($0)" } ?? ""
        var lines = [
            "\(output): \(report.blocksTaken) of \(total) data blocks,"
                + " \(report.record.entryCount)\(expected) versions,"
                + " \(report.record.rangeTombstoneCount) range tombstones",
            "digest \(report.record.digest), \(relation(report))",
        ]
        for loss in report.losses {
            lines.append("lost: \(blocks(loss)), keys \(keys(loss))")
            for block in loss.blocks {
                lines.append("  " + block.damage.of("block \(block.ordinal.rawValue)"))
            }
        }
        if report.mayLackBlocks {
            lines.append("lost: perhaps more blocks; how many there were is not known")
        }
        if let loss = tombstones(report.tombstoneLoss) { lines.append("lost: " + loss) }
        if !report.sumMatches {
            lines.append("lost: the sum over all versions is not that of the properties")
        }
        lines += report.remade.map { "made anew: \($0)" }
        return lines.joined(separator: "\n")
    }

    private static func relation(_ report: SalvageReport) -> String {
        if report.isOriginal { return "that of the original: nothing was lost" }
        guard let original = report.originalDigest else { return "the original's is not known" }
        return (report.isWhole ? "nothing was lost, " : "") + "the original's was \(original)"
    }

    private static func blocks(_ loss: SalvageReport.Loss) -> String {
        let ordinals = loss.blocks.map(\.ordinal.rawValue)
        guard let first = ordinals.first, let last = ordinals.last, first != last else {
            return "block \(ordinals.first ?? 0)"
        }
        return "\(ordinals.count) blocks, \(first) to \(last)"
    }

    private static func keys(_ loss: SalvageReport.Loss) -> String {
        let first = loss.first.map { InspectionText.quote($0) } ?? "the first"
        return "from \(first) to \(loss.last.map { InspectionText.quote($0) } ?? "the last")"
    }

    private static func tombstones(_ loss: SalvageReport.TombstoneLoss) -> String? {
        switch loss {
        case .none: return nil
        case .lost(let reason):
            return "the range tombstones (\(reason)); what they deleted may be back"
        case .unknown:
            return "perhaps range tombstones; whether there were any is not known"
        }
    }

    package static func json(_ report: SalvageReport, _ output: String) -> String {
        var json = JSONText()
        json.object { json in
            json.field("output", output)
            json.field("table", report.record.id.description)
            json.field("digest", report.record.digest.description)
            if let original = report.originalDigest {
                json.field("originalDigest", original.description)
            }
            json.field("whole", report.isWhole)
            json.field("original", report.isOriginal)
            json.field("blocksTaken", report.blocksTaken)
            json.field("blocksLost", report.blocksLost)
            json.field("mayLackBlocks", report.mayLackBlocks)
            json.field("entries", report.record.entryCount)
            if let expected = report.entriesExpected { json.field("entriesExpected", expected) }
            json.field("sumMatches", report.sumMatches)
            json.field("rangeTombstones", report.record.rangeTombstoneCount)
            if let loss = tombstones(report.tombstoneLoss) {
                json.field("rangeTombstonesLost", loss)
            }
            json.name("lost")
            json.array(of: report.losses) { json, loss in
                json.object { json in
                    if let first = loss.first { json.field("first", AdminJSON.base64(first)) }
                    if let last = loss.last { json.field("last", AdminJSON.base64(last)) }
                    json.name("blocks")
                    json.array(of: loss.blocks) { json, block in
                        json.object { json in
                            json.field("ordinal", UInt64(block.ordinal.rawValue))
                            if let offset = block.damage.offset {
                                json.field("offset", offset)
                            }
                            json.field("reason", block.damage.reason)
                        }
                    }
                }
            }
            json.name("madeAnew")
            json.array(of: report.remade) { $0.value($1) }
        }
        return json.text
    }
}
