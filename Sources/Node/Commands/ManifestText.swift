// A manifest as text and as JSON, for `martlet manifest dump`.
import Engine

/// Manifests as text.
package enum ManifestText {
    package static func text(_ found: ManifestInspection, withRecords: Bool) -> String {
        var lines = [facts(found).text]
        if let state = found.state {
            lines += members(state)
            lines.append(tables(state))
            lines += jobs(state)
        }
        if withRecords {
            for record in found.records {
                lines.append(line(record))
                lines += record.edits.map { "  " + edit($0) }
            }
        }
        lines += found.notes.map { ($0.isDamage ? "damaged: " : "torn: ") + $0.text }
        return lines.joined(separator: "\n")
    }

    private static func facts(_ found: ManifestInspection) -> FactList {
        var list = FactList()
        list.add("manifest", found.number)
        list.add("node", found.identity.node.rawValue)
        list.add("group", found.identity.group)
        list.add("genesis", .text(found.identity.genesis.description))
        list.add("records", found.records.count)
        guard let state = found.state else { return list }
        let flushed = state.flushed
        list.add("frontier", state.frontier.rawValue)
        list.add("state root", .text(state.manifest.stateRoot().description))
        list.add("flushed index", flushed.position.index.rawValue)
        list.add("flushed term", flushed.position.term.rawValue)
        list.add("flushed checksum", .text(flushed.position.checksum.description))
        list.add("next sequence", flushed.nextSequence.rawValue)
        list.add("flushed clock", flushed.clock)
        list.add("horizon", state.horizon.rawValue)
        list.add("expiry clock", state.clock)
        list.add("highest index", state.bounds.index.rawValue)
        list.add("highest sequence", state.bounds.sequence.rawValue)
        list.add("sealed through", state.manifest.sealedThrough.rawValue)
        list.add("segment bytes", state.settings.segmentBytes)
        list.add("block bytes", state.settings.blockBytes)
        if state.settings.blobThreshold > 0 {
            list.add("blob threshold", state.settings.blobThreshold)
            list.add("blob file bytes", state.settings.blobFileBytes)
        }
        list.add("filter kind", .text("\(state.settings.filter.kind)"))
        let operators = state.settings.functions.mergeOperators
        if !operators.isEmpty {
            let names = operators.map { "\($0.id) version \($0.version)" }
            list.add("merge operators", .text(names.joined(separator: ", ")))
        }
        if let filter = state.settings.functions.compactionFilter {
            list.add("compaction filter", .text(filter.description))
        }
        return list
    }

    private static func members(_ state: ManifestState) -> [String] {
        state.membership.members.map { member in
            "member \(member.id) at \(member.peerAddress), clients \(member.clientAddress)"
                + (member.isVoter ? "" : ", without a vote")
        }
    }

    private static func tables(_ state: ManifestState) -> String {
        var text = TextTable([
            "level", "table", ">generation", ">file bytes", ">canonical", ">entries",
            ">sequences", "digest", "smallest", "largest",
        ])
        for (level, table) in rows(state) {
            let local = state.local[table.id]
            text.add([
                level, table.id.description, local.map { String($0.generation) } ?? "?",
                local.map { String($0.fileBytes) } ?? "?", String(table.canonicalBytes),
                String(table.entryCount),
                "\(table.smallestSequence)-\(table.largestSequence)", table.digest.description,
                InspectionText.quote(table.span.start),
                table.points.map { InspectionText.quote($0.largest) }
                    ?? table.span.end.map { InspectionText.quote($0) } ?? "the last key",
            ])
        }
        return text.text
    }

    /// Every table with its level, stand-ins first, blob files last.
    private static func rows(_ state: ManifestState) -> [(level: String, table: TableRecord)] {
        let standIns = state.standIns.flatMap { standIn in
            standIn.tables.map { (level: "stand-in", table: $0) }
        }
        return standIns
            + (0..<TableRecord.levelCount).flatMap { level in
                state.manifest.tables.tables(at: level).map { (level: "\(level)", table: $0) }
            } + state.manifest.tables.blobs.map { (level: "blob", table: $0) }
    }

    private static func jobs(_ state: ManifestState) -> [String] {
        state.manifest.jobs.map { job in
            "job \(job.index) under way: \(job.spec.inputs.count) tables to level"
                + " \(job.spec.outputLevel)"
        }
            + state.manifest.unsealed.map { "segment \($0.first)-\($0.last) is not sealed" }
            + state.jobEntries.map { "entry \($0.index) kept: \($0.kind)" }
    }

    private static func line(_ record: ManifestInspection.Record) -> String {
        "record \(record.ordinal) \(record.isSnapshot ? "snapshot" : "edits")"
            + " at \(record.range.lowerBound), \(record.range.count) bytes"
    }

    private static func edit(_ edit: ManifestEdit) -> String {
        func names(_ tables: [TableRecord]) -> String {
            tables.isEmpty ? "no tables" : tables.map(\.id.description).joined(separator: " ")
        }
        switch edit {
        case .flushInstalled(let standIn, _, let horizon):
            return "flush of \(standIn.segment.first)-\(standIn.segment.last):"
                + " \(names(standIn.tables)), horizon \(horizon)"
        case .flushedThrough(let point):
            return "flushed through \(point.position.index), next sequence \(point.nextSequence)"
        case .sealInstalled(let index, let seal, _, _):
            return "seal \(index) of \(seal.first)-\(seal.last): \(names(seal.tables))"
        case .jobStarted(let index, let spec):
            return "job \(index) started: "
                + spec.inputs.map(\.id.description).joined(separator: " ")
                + " to level \(spec.outputLevel)"
        case .jobInstalled(let index, let record, _):
            return "job \(record.job) done by \(index): \(names(record.tables))"
        case .jobCancelled(let index, let record):
            return "job \(record.job) cancelled by \(index)"
        case .jobEntry(let entry): return "entry \(entry.index) kept: \(entry.kind)"
        case .healed(let table, let replaced, let local):
            return "table \(table) healed: generation \(local.generation) for \(replaced)"
        case .settings: return "settings"
        case .membership(let membership): return "membership of \(membership.members.count)"
        case .bounds(let bounds):
            return "bounds: index \(bounds.index), sequence \(bounds.sequence)"
        }
    }

    // MARK: JSON

    package static func json(_ found: ManifestInspection) -> String {
        var json = JSONText()
        json.object { json in
            facts(found).write(to: &json)
            if let state = found.state { write(state, to: &json) }
            json.name("log")
            json.array(of: found.records) { json, record in
                json.object { json in
                    json.field("ordinal", record.ordinal)
                    json.field("snapshot", record.isSnapshot)
                    json.field("offset", record.range.lowerBound)
                    json.field("bytes", record.range.count)
                    json.name("edits")
                    json.array(of: record.edits) { $0.value(edit($1)) }
                }
            }
            json.field("damaged", found.isDamaged)
            json.name("notes")
            json.array(of: found.notes) { $0.value($1.text) }
        }
        return json.text
    }

    private static func write(_ state: ManifestState, to json: inout JSONText) {
        json.name("members")
        json.array(of: members(state)) { $0.value($1) }
        json.name("tables")
        json.array(of: rows(state)) { json, row in
            json.object { json in
                json.field("id", row.table.id.description)
                json.field("level", row.level)
                if let local = state.local[row.table.id] {
                    json.field("generation", UInt64(local.generation))
                    json.field("fileBytes", local.fileBytes)
                }
                json.field("canonicalBytes", row.table.canonicalBytes)
                json.field("entries", row.table.entryCount)
                json.field("digest", row.table.digest.description)
                json.field("spanStart", AdminJSON.base64(row.table.span.start))
                if let end = row.table.span.end { json.field("spanEnd", AdminJSON.base64(end)) }
            }
        }
        json.name("pending")
        json.array(of: jobs(state)) { $0.value($1) }
    }
}
