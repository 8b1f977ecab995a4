// What `martlet sst filter` and `properties` print of filters.
import Engine

/// Filters as text.
package enum FilterText {
    static func add(_ shape: FilterShape, to list: inout FactList) {
        list.add("filter kind", .text("\(shape.kind)"))
        list.add("filter key bits", shape.keyBits)
        list.add("filter prefix bits", shape.prefixBits)
        list.add("filter partition above", shape.partitionAbove)
        list.add("filter prefix", .text(prefix(shape.prefix)))
    }

    private static func prefix(_ extractor: PrefixExtractor) -> String {
        switch extractor {
        case .none: return "none"
        case .fixed(let length): return "the first \(length) bytes"
        case .delimiter(let byte, let occurrence):
            return "up to \(InspectionText.quote([byte])) number \(occurrence)"
        }
    }

    private static func form(_ form: FilterForm) -> String {
        switch form {
        case .bloom(let probes, let blocks):
            return "blocked Bloom, \(probes) probes, \(blocks) cache lines"
        case .burr(let bits, let layers, let listed):
            return "ribbon of \(bits) bits, \(layers) layers, \(listed) keys listed"
        }
    }

    package static func text(_ report: FilterReport) -> String {
        var lines: [String] = []
        if let shape = report.shape {
            lines.append(
                "built as \(shape.kind): \(shape.keyBits) bits a key, \(shape.prefixBits) a prefix"
                    + " (\(prefix(shape.prefix))), partitions above \(shape.partitionAbove) bytes")
        }
        for block in report.blocks {
            lines.append(
                "block \(block.ordinal.rawValue) \(block.type): \(block.bytes) bytes"
                    + (block.form.map { ", " + form($0) } ?? "")
                    + (block.damage.map { ", damaged: \($0)" } ?? ""))
        }
        if report.blocks.isEmpty { lines.append("no filters") }
        lines.append("memory \(report.residentBytes) bytes while the table is open")
        if let keys = report.keys { lines.append("keys: " + trial(keys)) }
        if let prefixes = report.prefixes { lines.append("prefixes: " + trial(prefixes)) }
        if report.damagedDataBlocks > 0 {
            lines.append(
                "damaged: \(report.damagedDataBlocks) data blocks, whose keys were not asked for")
        }
        return lines.joined(separator: "\n")
    }

    private static func trial(_ trial: FilterTrial) -> String {
        let number = JSONText.number
        return "\(trial.present), \(number(trial.bitsPerKey)) bits each;"
            + " of \(trial.absent) absent ones \(trial.falsePositives) maybe, false-positive rate"
            + " \(number(trial.falsePositiveRate)); \(trial.falseNegatives) present ones denied"
    }

    package static func json(_ report: FilterReport) -> String {
        var json = JSONText()
        json.object { json in
            if let shape = report.shape {
                json.field("kind", "\(shape.kind)")
                json.field("keyBits", UInt64(shape.keyBits))
                json.field("prefixBits", UInt64(shape.prefixBits))
                json.field("partitionAbove", UInt64(shape.partitionAbove))
                json.field("prefix", prefix(shape.prefix))
            }
            json.field("residentBytes", report.residentBytes)
            json.field("sound", report.isSound)
            json.name("blocks")
            json.array(of: report.blocks) { json, block in
                json.object { json in
                    json.field("ordinal", UInt64(block.ordinal.rawValue))
                    json.field("type", block.type)
                    json.field("bytes", block.bytes)
                    if let found = block.form { json.field("form", form(found)) }
                    if let damage = block.damage { json.field("damage", damage) }
                }
            }
            write("keys", report.keys, to: &json)
            write("prefixes", report.prefixes, to: &json)
        }
        return json.text
    }

    private static func write(_ name: String, _ trial: FilterTrial?, to json: inout JSONText) {
        guard let trial else { return }
        json.name(name)
        json.object { json in
            json.field("present", trial.present)
            json.field("denied", trial.falseNegatives)
            json.field("absent", trial.absent)
            json.field("maybe", trial.falsePositives)
            json.field("falsePositiveRate", trial.falsePositiveRate)
            json.field("bitsPerKey", trial.bitsPerKey)
        }
    }
}
