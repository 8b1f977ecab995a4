// The requests of one connection: made once and filled in for each use, so that a request costs no
// more than its own bytes.
import NIOCore

struct LoadRequest {
    static let keyBytes = 16

    private var buffer: ByteBuffer
    private let keyOffset: Int
    /// Nil for a GET.
    private let valueOffset: Int?
    /// Replies that it gets.
    let replies: Int

    static func set(valueBytes: Int, waitReplicas: Int, waitMilliseconds: Int) -> LoadRequest {
        var text = "*3\r\n$3\r\nSET\r\n$\(keyBytes)\r\n"
        let keyOffset = text.utf8.count
        text += String(repeating: "0", count: keyBytes) + "\r\n$\(valueBytes)\r\n"
        let valueOffset = text.utf8.count
        var buffer = ByteBuffer(string: text)
        buffer.writeRepeatingByte(UInt8(ascii: "x"), count: valueBytes)
        buffer.writeString("\r\n")
        if waitReplicas > 0 {
            let (count, limit) = (String(waitReplicas), String(waitMilliseconds))
            buffer.writeString("*3\r\n$4\r\nWAIT\r\n$\(count.utf8.count)\r\n\(count)\r\n")
            buffer.writeString("$\(limit.utf8.count)\r\n\(limit)\r\n")
        }
        return LoadRequest(
            buffer: buffer, keyOffset: keyOffset, valueOffset: valueOffset,
            replies: waitReplicas > 0 ? 2 : 1)
    }

    static func get() -> LoadRequest {
        let text = "*2\r\n$3\r\nGET\r\n$\(keyBytes)\r\n"
        let key = String(repeating: "0", count: keyBytes)
        return LoadRequest(
            buffer: ByteBuffer(string: text + key + "\r\n"), keyOffset: text.utf8.count,
            valueOffset: nil, replies: 1)
    }

    /// The bytes for `key`. What was returned before must have been written by now, else this
    /// copies.
    mutating func bytes(key: UInt64, _ values: inout BenchmarkValues) -> ByteBuffer {
        var (rest, place) = (key, keyOffset + LoadRequest.keyBytes)
        while place > keyOffset {
            place -= 1
            buffer.setInteger(UInt8(ascii: "0") + UInt8(rest % 10), at: place)
            rest /= 10
        }
        if let valueOffset {
            values.withNext { value in _ = buffer.setBytes(value, at: valueOffset) }
        }
        return buffer
    }
}
