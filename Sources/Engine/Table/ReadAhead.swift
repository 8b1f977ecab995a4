// What lies ahead of a cursor that reads a table in order, so that one call of the system reads
// many blocks. Bytes as the file has them: every block is checked when it is taken, as if it had
// been read alone, and whoever finds it damaged reads it alone.
//
// The window starts when a block follows the one before it, and doubles with each read up to a
// bound. A block is taken once: who takes it may decrypt it in place. Of a long scan what is stored
// as it is read leaves the cache as it was: to fill it costs more than to read the block again.

struct ReadAhead: ~Copyable {
    static let firstBytes = 16 << 10
    static let bytesMax = 128 << 10
    /// Behind so many bytes in a row a cursor is taken to read all of a table.
    static let bulkBytes = 1 << 20

    private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    /// What of the buffer was not taken yet, and where in the file that starts.
    private var rest = 0..<0
    private var restOffset: UInt64 = 0
    /// Where the next block starts if the cursor goes on in order.
    private var expected: UInt64?
    /// Bytes of the next read; 0 before blocks followed each other.
    private var window = 0
    /// Bytes of the blocks that followed each other up to here.
    private var inOrder = 0

    deinit { buffer.deallocate() }

    /// The `count` bytes of `file` at `offset`, to be changed at will until the next call; nil if
    /// they are not ahead of what was taken before, or cannot be read.
    mutating func take(_ file: any File, _ fileBytes: UInt64, at offset: UInt64, count: Int)
        -> UnsafeMutableRawBufferPointer?
    {
        let isNext = offset == expected
        inOrder = isNext ? inOrder + count : 0
        expected = offset + UInt64(count)
        if !holds(offset, count) {
            guard isNext else {
                rest = 0..<0
                window = 0
                return nil
            }
            window = min(max(2 * window, ReadAhead.firstBytes), ReadAhead.bytesMax)
            guard count <= window, offset < fileBytes else { return nil }
            fill(file, at: offset, count: Int(min(UInt64(window), fileBytes - offset)))
            guard holds(offset, count) else { return nil }
        }
        let start = rest.lowerBound + Int(offset - restOffset)
        rest = start + count..<rest.upperBound
        restOffset = offset + UInt64(count)
        return UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + count])
    }

    /// Who reads so much does not come back for it soon.
    var isBulk: Bool { inOrder > ReadAhead.bulkBytes }

    private func holds(_ offset: UInt64, _ count: Int) -> Bool {
        guard offset >= restOffset, count <= rest.count else { return false }
        return offset - restOffset <= UInt64(rest.count - count)
    }

    private mutating func fill(_ file: any File, at offset: UInt64, count: Int) {
        if buffer.count < count {
            buffer.deallocate()
            buffer = .allocate(byteCount: window, alignment: 64)
        }
        rest = 0..<0
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        guard let got = try? file.read(at: offset, into: target) else { return }
        rest = 0..<got
        restOffset = offset
    }
}
