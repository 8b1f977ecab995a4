// Named values, for the tools that print what a file says of itself as text or as JSON.

/// Named values in order. As JSON, "canonical bytes" is named `canonicalBytes`.
package struct FactList {
    package enum Value {
        case number(UInt64)
        case text(String)
        /// Base64 in JSON.
        case key([UInt8])
    }

    private var facts: [(name: String, value: Value)] = []

    mutating func add(_ name: String, _ value: Value) { facts.append((name, value)) }
    mutating func add(_ name: String, _ number: some BinaryInteger) {
        add(name, .number(UInt64(number)))
    }

    package var text: String {
        let width = facts.map(\.name.count).max() ?? 0
        return facts.map { name, value in
            let padding = String(repeating: " ", count: width - name.count + 2)
            switch value {
            case .number(let number): return "\(name)\(padding)\(number)"
            case .text(let text): return "\(name)\(padding)\(text)"
            case .key(let key): return "\(name)\(padding)\(InspectionText.quote(key))"
            }
        }.joined(separator: "\n")
    }

    package var json: String {
        var json = JSONText()
        json.object { write(to: &$0) }
        return json.text
    }

    /// The fields, into an object that is open.
    func write(to json: inout JSONText) {
        for (name, value) in facts {
            json.name(FactList.camelCase(name))
            switch value {
            case .number(let number): json.value(number)
            case .text(let text): json.value(text)
            case .key(let key): json.value(AdminJSON.base64(key))
            }
        }
    }

    private static func camelCase(_ name: String) -> String {
        let words = name.split(separator: " ")
        return words.prefix(1).joined()
            + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }
}
