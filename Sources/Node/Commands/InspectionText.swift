// How keys and values are shown to people: printable text in quotes, everything else escaped.

enum InspectionText {
    static let bytesMax = 200

    /// At most `bytesMax` bytes of it, then how many there are.
    static func quote(_ bytes: some Collection<UInt8>) -> String {
        var text = "\""
        for byte in bytes.prefix(bytesMax) {
            switch byte {
            case UInt8(ascii: "\""): text += "\\\""
            case UInt8(ascii: "\\"): text += "\\\\"
            case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16)
                text += "\\x" + (digits.utf8.count == 1 ? "0" : "") + digits
            }
        }
        return text + "\"" + (bytes.count > bytesMax ? "… (\(bytes.count) bytes)" : "")
    }
}
