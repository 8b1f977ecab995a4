// The layout of a table file as text and as JSON: its properties and its blocks; filters are
// measured here and printed by `FilterText`.
import Engine

extension TableInspection {
    /// Header, block map and footer: what is wrong with them.
    package var localDamage: [String] { reader.localDamage.map(\.description) }

    // MARK: Properties

    package func properties() throws -> FactList {
        let properties = try SSTCommand.inspect { () throws(EngineError) in
            try reader.properties()
        }
        var list = FactList()
        list.add("table", .text(record.id.description))
        list.add("digest", .text(record.digest.description))
        if let header = reader.localHeader {
            list.add("generation", header.generation)
            list.add("codec", .text("\(header.codec)"))
            list.add("key epoch", header.keyEpoch)
        }
        list.add("file bytes", reader.fileBytes)
        list.add("canonical bytes", record.canonicalBytes)
        list.add("blocks", reader.blockCount)
        list.add("data blocks", reader.leafList.dataCount)
        list.add("entries", record.entryCount)
        list.add("deletes", record.deleteCount)
        list.add("range tombstones", record.rangeTombstoneCount)
        for use in record.blobs {
            list.add("in \(use.file)", .text("\(use.count) values, \(use.bytes) bytes"))
        }
        list.add("entry sum", .text(hex16(record.entrySum)))
        list.add("smallest sequence", record.smallestSequence.rawValue)
        list.add("largest sequence", record.largestSequence.rawValue)
        if let points = record.points {
            list.add("smallest key", .key(points.smallest))
            list.add("largest key", .key(points.largest))
        }
        list.add("span start", .key(record.span.start))
        if let end = record.span.end { list.add("span end", .key(end)) }
        list.add("block bytes", properties.shape.blockBytes)
        FilterText.add(properties.shape.filter, to: &list)
        if !localDamage.isEmpty {
            list.add("damaged", .text(localDamage.joined(separator: "; ")))
        }
        return list
    }

    // MARK: Blocks

    package struct BlockList {
        package var text: String
        package var json: String
        /// A line for each damaged block.
        package var damage: [String]
    }

    package func blockList() -> BlockList {
        var table = TextTable([
            ">block", "type", ">offset", ">stored", ">bytes", "codec", ">versions", "sequences",
            "first key", "last key",
        ])
        var blocks: [BlockSummary] = []
        reader.forEachBlock { block in
            blocks.append(block)
            table.add(TableInspection.row(block))
        }
        var json = JSONText()
        json.object { json in
            json.field("table", record.id.description)
            json.name("blocks")
            json.array(of: blocks) { TableInspection.write($1, to: &$0) }
        }
        let damage = blocks.compactMap { block in
            block.damage.map { "damaged: " + $0.of("block \(block.ordinal.rawValue)") }
        }
        return BlockList(
            text: ([table.text] + localDamage.map { "damaged: \($0)" } + damage)
                .joined(separator: "\n"),
            json: json.text, damage: damage)
    }

    private static func row(_ block: BlockSummary) -> [String] {
        [
            String(block.ordinal.rawValue), block.type, block.offset.map { String($0) } ?? "?",
            block.storedBytes.map { String($0) } ?? "?", String(block.canonicalBytes),
            block.codec.map { "\($0)" } ?? "?", block.data.map { String($0.entries) } ?? "",
            block.data.map { "\($0.sequences.lowerBound)-\($0.sequences.upperBound)" } ?? "",
            block.data.map { InspectionText.quote($0.firstKey) } ?? "",
            block.data.map { InspectionText.quote($0.lastKey) } ?? "",
        ]
    }

    private static func write(_ block: BlockSummary, to json: inout JSONText) {
        json.object { json in
            json.field("ordinal", UInt64(block.ordinal.rawValue))
            json.field("type", block.type)
            if let offset = block.offset { json.field("offset", offset) }
            if let stored = block.storedBytes { json.field("storedBytes", UInt64(stored)) }
            json.field("canonicalBytes", block.canonicalBytes)
            if let codec = block.codec { json.field("codec", "\(codec)") }
            if let data = block.data {
                json.field("entries", data.entries)
                json.field("smallestSequence", data.sequences.lowerBound.rawValue)
                json.field("largestSequence", data.sequences.upperBound.rawValue)
                json.field("firstKey", AdminJSON.base64(data.firstKey))
                json.field("lastKey", AdminJSON.base64(data.lastKey))
            }
            if let damage = block.damage { json.field("damage", damage.reason) }
        }
    }

    // MARK: Filters

    package func filters(samples: Int, seed: UInt64) -> FilterReport {
        reader.filterReport(samples: samples, seed: seed)
    }
}
