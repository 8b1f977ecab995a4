// Writes JSON text, field by field, in a fixed order: what HTTP, RESP and the command line print
// must be the same bytes. Only what these surfaces need: objects, arrays, strings, numbers.

package struct JSONText: Sendable {
    package private(set) var bytes: [UInt8] = []
    /// Whether the next value in the innermost container needs a comma before it.
    private var needsComma = false

    package init() {}

    package var text: String { String(decoding: bytes, as: UTF8.self) }

    /// One number, as it stands in a document.
    package static func number(_ value: Double) -> String {
        var json = JSONText()
        json.value(value)
        return json.text
    }

    package mutating func object(_ body: (inout JSONText) -> Void) {
        container("{", "}", body)
    }

    package mutating func array(_ body: (inout JSONText) -> Void) {
        container("[", "]", body)
    }

    package mutating func array<Element>(
        of elements: some Sequence<Element>, _ body: (inout JSONText, Element) -> Void
    ) {
        array { json in
            for element in elements { body(&json, element) }
        }
    }

    package mutating func name(_ name: String) {
        separate()
        quote(name)
        append(":")
        needsComma = false
    }

    package mutating func value(_ text: String) {
        separate()
        quote(text)
        needsComma = true
    }

    package mutating func value(_ number: UInt64) { raw(String(number)) }
    package mutating func value(_ number: Int) { raw(String(number)) }
    package mutating func value(_ flag: Bool) { raw(flag ? "true" : "false") }

    /// Rounded to six places; infinite and undefined numbers have no JSON and become null.
    package mutating func value(_ number: Double) {
        guard number.isFinite, abs(number) < 1e15 else { return raw("null") }
        var whole = UInt64(number.magnitude)
        var rest = UInt64(((number.magnitude - Double(whole)) * 1e6).rounded())
        if rest == 1_000_000 { (whole, rest) = (whole + 1, 0) }
        var text = (number < 0 && (whole, rest) != (0, 0) ? "-" : "") + String(whole)
        if rest > 0 {
            let digits = String(rest)
            text += "." + String(repeating: "0", count: 6 - digits.utf8.count) + digits
            while text.hasSuffix("0") { text.removeLast() }
        }
        raw(text)
    }

    package mutating func field(_ name: String, _ text: String) {
        self.name(name)
        value(text)
    }

    package mutating func field(_ name: String, _ number: UInt64) {
        self.name(name)
        value(number)
    }

    package mutating func field(_ name: String, _ isTrue: Bool) {
        self.name(name)
        value(isTrue)
    }

    package mutating func field(_ name: String, _ number: Int) {
        self.name(name)
        value(number)
    }

    package mutating func field(_ name: String, _ number: Double) {
        self.name(name)
        value(number)
    }

    private mutating func raw(_ text: String) {
        separate()
        append(text)
        needsComma = true
    }

    private mutating func container(
        _ open: String, _ close: String, _ body: (inout JSONText) -> Void
    ) {
        separate()
        append(open)
        needsComma = false
        body(&self)
        append(close)
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { append(",") }
    }

    private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private mutating func quote(_ text: String) {
        append("\"")
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): append("\\\"")
            case UInt8(ascii: "\\"): append("\\\\")
            case UInt8(ascii: "\n"): append("\\n")
            case UInt8(ascii: "\r"): append("\\r")
            case UInt8(ascii: "\t"): append("\\t")
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                append("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
            default: bytes.append(byte)
            }
        }
        append("\"")
    }
}
