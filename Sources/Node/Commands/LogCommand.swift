// `martlet log dump|verify`: a segment file of the log by itself, without its node.
import ArgumentParser
import Engine

struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Look into a segment file of the log.",
        subcommands: [LogDumpCommand.self, LogVerifyCommand.self])

    /// Opens the file and hands over what `SegmentInspection` finds.
    static func inspect(
        _ path: String, _ keys: KeyRing, _ each: (SegmentInspection.Item) -> Bool = { _ in true }
    ) throws -> SegmentInspection {
        do throws(EngineError) {
            let file: any File
            do throws(FileError) {
                file = try POSIXFileSystem().open(path, .read)
            } catch {
                throw .file(error)
            }
            return try SegmentInspection.inspect(file, keys: keys, each)
        } catch {
            if case .corrupt = error { throw NodeFailure(.damage, error.description) }
            throw NodeFailure(classifying: error)
        }
    }
}

struct LogDumpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump", abstract: "Print the entries of a segment.")

    @Argument(help: "The .seg file.")
    var file: String

    @Option(help: ArgumentHelp("Start at this log index.", valueName: "index"))
    var from: UInt64 = 0

    @Option(help: ArgumentHelp("Stop after this many entries.", valueName: "n"))
    var limit = Int.max

    @Flag(help: "Print the effects of each write, too.")
    var effects = false

    @OptionGroup var key: KeyOption

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit: must be above 0") }
    }

    func run() throws {
        var left = limit
        let inspection = try LogCommand.inspect(file, key.ring()) { item in
            guard item.header.index.rawValue >= from else { return true }
            guard left > 0 else { return false }
            left -= 1
            ProcessExit.printLine(SegmentText.line(item))
            if effects {
                for line in SegmentText.effects(item) { ProcessExit.printLine(line) }
            }
            return true
        }
        ProcessExit.printLine(SegmentText.summary(inspection))
        guard inspection.isWhole else {
            throw NodeFailure(.damage, "\(file): damaged; not every entry could be shown")
        }
    }
}

struct LogVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check every frame and entry of a segment.",
        discussion: """
            Exits with 0 if all is well and with 65 if entries are missing or the header is \
            damaged. A torn tail of the newest segment is normal after a crash and only reported.
            """)

    @Argument(help: "The .seg file.")
    var file: String

    @OptionGroup var key: KeyOption

    func run() throws {
        let inspection = try LogCommand.inspect(file, key.ring())
        ProcessExit.printLine(SegmentText.summary(inspection))
        guard inspection.isWhole else {
            throw NodeFailure(.damage, "\(file): damaged")
        }
    }
}

/// Segments as text.
package enum SegmentText {
    package static func line(_ item: SegmentInspection.Item) -> String {
        let header = item.header
        return "\(header.index) term \(header.term) \(header.kind) at \(item.offset) "
            + "epoch \(item.epoch) sequence \(header.firstSequence) clock \(header.clock) "
            + "commit \(header.commit) durable \(item.durable) "
            + "payload \(header.length) checksum \(header.checksum)"
    }

    package static func effects(_ item: SegmentInspection.Item) -> [String] {
        var lines: [String] = []
        item.payload.withUnsafeBytes { payload in
            do throws(DecodingError) {
                try EntryEffects.forEach(
                    of: item.header.kind, payload, from: item.header.firstSequence
                ) { (sequence, effect) throws(DecodingError) in
                    lines.append("  \(sequence.rawValue) \(text(effect))")
                }
            } catch {
                lines.append("  malformed: \(error)")
            }
        }
        return lines
    }

    private static func text(_ effect: Effect) -> String {
        switch effect {
        case .put(let key, let value):
            return "put \(InspectionText.quote(key)) = \(InspectionText.quote(value))"
        case .expiringPut(let key, let stored):
            // Validated: eight bytes of expiry stand before the value.
            let expiry = UInt64(littleEndian: stored.loadUnaligned(as: UInt64.self))
            let value = UnsafeRawBufferPointer(rebasing: stored[8...])
            return "put \(InspectionText.quote(key)) until \(expiry) ="
                + " \(InspectionText.quote(value))"
        case .delete(let key): return "delete \(InspectionText.quote(key))"
        case .singleDelete(let key): return "single delete \(InspectionText.quote(key))"
        case .merge(let key, let stored):
            guard let operand = MergeOperand(stored: stored) else { return "merge" }
            return "merge \(InspectionText.quote(key)) by \(operand.id):"
                + " \(InspectionText.quote(operand.bytes))"
        case .deleteRange(let start, let end):
            let end = end.map { InspectionText.quote($0) } ?? "the last key"
            return "delete range \(InspectionText.quote(start)) up to \(end)"
        }
    }

    package static func summary(_ inspection: SegmentInspection) -> String {
        var lines: [String] = []
        if let reason = inspection.headerDamage { lines.append("damaged: header: \(reason)") }
        if let first = inspection.first, let last = inspection.last {
            lines.append(
                "entries \(inspection.count), from \(first) to \(last.index) (term \(last.term)), "
                    + "last checksum \(last.checksum)")
        } else {
            lines.append("no entries")
        }
        for offset in inspection.tampered {
            lines.append("tampered: the entry at \(offset) holds its checksum and is not authentic")
        }
        for hole in inspection.holes { lines.append("missing: \(hole.lower) to \(hole.upper)") }
        lines.append(
            "frames end at \(inspection.end) of \(inspection.size) bytes"
                + (inspection.hasLeftovers ? "; stale or torn frames behind" : ""))
        return lines.joined(separator: "\n")
    }
}
