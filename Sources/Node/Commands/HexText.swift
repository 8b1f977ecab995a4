// What `martlet sst hex` prints.
import Engine

/// Bytes as text: place, sixteen bytes, what of them is printable, and the name of what begins.
package enum HexText {
    private static let rowBytes = 16

    package static func forEachLine(_ part: TablePart, limit: Int, _ body: (String) -> Void) {
        body(
            "\(part.title), \(part.bytes.count) bytes"
                + (part.offset.map { " at \($0)" } ?? ", decoded")
                + (part.damage.map { ", damaged: \($0)" } ?? ""))
        var at = 0
        for piece in part.pieces {
            guard piece.range.lowerBound < limit else { break }
            rows(part, piece.range, limit, piece, body)
            at = piece.range.upperBound
        }
        if at < min(part.bytes.count, limit) {
            rows(part, at..<part.bytes.count, limit, nil, body)
        }
        if part.bytes.count > limit {
            body("\(part.bytes.count - limit) more bytes; see --limit")
        }
    }

    private static func rows(
        _ part: TablePart, _ range: Range<Int>, _ limit: Int, _ piece: NamedBytes?,
        _ body: (String) -> Void
    ) {
        let end = min(range.upperBound, limit)
        for start in stride(from: range.lowerBound, to: end, by: rowBytes) {
            let bytes = part.bytes[start..<min(start + rowBytes, end)]
            let place = hex16(UInt64(start) &+ (part.offset ?? 0)).suffix(8)
            let hex = bytes.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }
                .joined(separator: " ")
            let padding = String(repeating: " ", count: rowBytes * 3 - 1 - hex.utf8.count)
            let text = String(
                decoding: bytes.map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: ".") },
                as: UTF8.self)
            var line = "\(place)  \(hex)\(padding)  |\(text)|"
            if let piece, start == range.lowerBound {
                line += String(repeating: " ", count: rowBytes - bytes.count)
                line += "  \(piece.name)" + (piece.meaning.isEmpty ? "" : " \(piece.meaning)")
            }
            body(line)
        }
    }
}
