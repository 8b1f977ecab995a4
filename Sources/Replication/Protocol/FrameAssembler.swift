// Turns the byte stream of one connection into verified frames. Keeps only bytes that have arrived:
// a header that claims much makes nothing be allocated ahead. Until the connection is open, nothing
// but a handshake frame is accepted. One assembler per connection, on its event loop.
import Engine

package struct FrameAssembler {
    /// A whole frame whose checksums hold; read it by `withPayload` before the next `append`.
    package struct Frame: Hashable {
        package var type: FrameType
        fileprivate var range: Range<Int>
        package var payloadBytes: Int { range.count }
    }

    /// True once the peer's hello was accepted.
    package var isOpen = false
    private let limits: FrameLimits
    private var buffer: [UInt8] = []
    private var start = 0

    /// A buffer above this is given back as soon as it is empty.
    private static let keptBytes = 1 << 20

    package init(limits: FrameLimits) { self.limits = limits }

    /// Bytes held for a frame that is not whole yet.
    package var pendingBytes: Int { buffer.count - start }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        reclaim()
        buffer.append(contentsOf: bytes)
    }

    /// The next whole frame, nil if there is none yet. After an error the stream is lost: nobody
    /// knows where the next frame would start.
    package mutating func next() throws(DecodingError) -> Frame? {
        guard pendingBytes >= FrameHeader.size else { return nil }
        let from = start
        var failure: DecodingError?
        var frame: Frame?
        buffer.withUnsafeBytes { all in
            do throws(DecodingError) {
                frame = try verified(UnsafeRawBufferPointer(rebasing: all[from...]), at: from)
            } catch { failure = error }
        }
        if let failure { throw failure }
        if let frame { start = frame.range.upperBound }
        return frame
    }

    private func verified(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DecodingError)
        -> Frame?
    {
        let header = try FrameHeader(parsing: bytes)
        if !isOpen, header.type != .hello, header.type != .refusal {
            throw DecodingError("a frame of type \(header.type) before the hello")
        }
        let limit = limits.payloadBytes(of: header.type)
        guard header.length <= limit else {
            throw DecodingError(
                "\(header.type) of \(header.length) bytes is above the limit of \(limit)")
        }
        guard bytes.count - FrameHeader.size >= header.length else { return nil }
        let payload = UnsafeRawBufferPointer(
            rebasing: bytes[FrameHeader.size..<(FrameHeader.size + header.length)])
        guard Checksum.hash64(payload) == header.payloadHash else {
            throw DecodingError("the payload of a frame of type \(header.type) does not match")
        }
        let first = offset + FrameHeader.size
        return Frame(type: header.type, range: first..<(first + header.length))
    }

    package func withPayload<R>(
        of frame: Frame, _ body: (UnsafeRawBufferPointer) throws(DecodingError) -> R
    ) throws(DecodingError) -> R {
        var result: Result<R, DecodingError>?
        buffer.withUnsafeBytes { all in
            let payload = UnsafeRawBufferPointer(rebasing: all[frame.range])
            do throws(DecodingError) { result = .success(try body(payload)) } catch {
                result = .failure(error)
            }
        }
        guard let result else { brokenInvariant("withUnsafeBytes did not call its body") }
        return try result.get()
    }

    /// Drops what was read, so that the buffer stays as small as one frame and one read.
    private mutating func reclaim() {
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= FrameAssembler.keptBytes)
            start = 0
        } else if start >= 64 << 10 {
            buffer.removeSubrange(..<start)
            start = 0
        }
    }
}
