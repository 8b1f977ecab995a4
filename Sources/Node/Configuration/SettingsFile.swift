// A YAML file as flat settings: dotted key, text, line. swift-configuration's own YAML provider
// neither lists the keys it read (needed to refuse unknown ones) nor takes lists of mappings
// (needed for `members`), so the tree is walked here and handed to it as flat values.
import Yams

struct SettingsFile {
    struct Entry: Equatable {
        var key: String
        var text: String
        var line: Int
    }

    private(set) var entries: [Entry] = []
    private(set) var problems: [ConfigurationProblem] = []
    /// As the user wrote it, for messages.
    let path: String

    static let bytesMax: UInt64 = 1 << 20

    /// `sections` are the known prefixes: one without a value is an empty section.
    init(path: String, text: String, sections: Set<String>) {
        self.path = path
        do {
            guard let root = try Yams.compose(yaml: text) else { return }
            if case .scalar(let scalar) = root, scalar.string.isEmpty { return }
            guard case .mapping(let mapping) = root else {
                report(line: root.mark?.line, "the file is not a mapping of settings")
                return
            }
            walk(mapping, prefix: "", sections: sections)
        } catch {
            problems.append(.init(origin: path, SettingsFile.describe(error)))
        }
    }

    func origin(line: Int) -> String { line > 0 ? "\(path):\(line)" : path }

    private mutating func walk(
        _ mapping: Yams.Node.Mapping, prefix: String, sections: Set<String>
    ) {
        for (keyNode, value) in mapping {
            let line = keyNode.mark?.line ?? 0
            guard case .scalar(let scalar) = keyNode, !scalar.string.isEmpty else {
                report(line: line, "a key is not a text")
                continue
            }
            let key = prefix + scalar.string
            switch value {
            case .mapping(let inner):
                walk(inner, prefix: key + ".", sections: sections)
            case .scalar(let scalar):
                let isBlank = scalar.style == .plain && ["", "~", "null"].contains(scalar.string)
                if isBlank {
                    if !sections.contains(key) { report(line: line, key: key, "has no value") }
                } else {
                    add(key, scalar.string, line)
                }
            case .sequence(let sequence) where key == "members":
                if let text = memberList(sequence, line: line) { add(key, text, line) }
            case .sequence:
                report(line: line, key: key, "is a list, where one value is expected")
            case .alias:
                report(line: line, key: key, "is an alias that names nothing")
            }
        }
    }

    private mutating func add(_ key: String, _ text: String, _ line: Int) {
        if let earlier = entries.first(where: { $0.key == key }) {
            report(line: line, key: key, "was already set in line \(earlier.line)")
        } else {
            entries.append(Entry(key: key, text: text, line: line))
        }
    }

    /// The list in the compact form that flags and variables use.
    private mutating func memberList(_ sequence: Yams.Node.Sequence, line: Int) -> String? {
        let fields = ["id", "peer", "client"]
        var members: [String] = []
        let before = problems.count
        for (place, node) in sequence.enumerated() {
            let line = node.mark?.line ?? line
            let name = "members[\(place)]"
            guard case .mapping(let mapping) = node else {
                report(line: line, key: name, "is not a mapping of id, peer and client")
                continue
            }
            var values: [String: String] = [:]
            for (keyNode, value) in mapping {
                let field = keyNode.scalar?.string ?? ""
                let line = keyNode.mark?.line ?? line
                guard fields.contains(field) else {
                    let hint = NearestKey.suggestion(for: field, among: fields)
                    report(
                        line: line, key: "\(name).\(field)",
                        "unknown key" + (hint.map { "; did you mean \($0)?" } ?? ""))
                    continue
                }
                guard let text = value.scalar?.string, !text.isEmpty else {
                    report(line: line, key: "\(name).\(field)", "has no value")
                    continue
                }
                values[field] = text
            }
            for field in fields where values[field] == nil {
                report(line: line, key: name, "has no \(field)")
            }
            if let id = values["id"], let peer = values["peer"], let client = values["client"] {
                members.append("\(id)=\(peer)/\(client)")
            }
        }
        return problems.count == before ? members.joined(separator: ",") : nil
    }

    private mutating func report(line: Int?, key: String? = nil, _ message: String) {
        problems.append(.init(origin: origin(line: line ?? 0), key: key, message))
    }

    /// Yams prints a drawing over several lines; its first line says all.
    private static func describe(_ error: any Error) -> String {
        if case YamlError.duplicatedKeysInMapping(let duplicates, _) = error {
            let names = duplicates.sorted()
            return "key set twice: \(names.joined(separator: ", "))"
        }
        let text = String(describing: error)
        return "not YAML: " + (text.split(separator: "\n").first.map(String.init) ?? text)
    }
}
