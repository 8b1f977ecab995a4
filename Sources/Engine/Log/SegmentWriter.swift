// Writes frames into the active segment. Groups that will be synced go through one `pwrite` each,
// in whole 512-byte sectors, into space that is zero-filled or recycled ahead of the writer:
// syncing into unwritten extents costs half as much again. An unsynced log stores into a mapping
// instead.
//
// Belongs to the appender's thread.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class SegmentWriter {
    let segment: LogSegment
    private let options: LogOptions
    /// The file has written blocks up to here.
    @exclusivity(unchecked) private var allocated: UInt64
    @exclusivity(unchecked) private var mapping: (any FileMapping)?
    /// Its bytes; none without it.
    @exclusivity(unchecked) private var mappedBytes = UnsafeMutableRawBufferPointer(
        start: nil, count: 0)
    private var buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    /// The next frame starts a group: everything before it was synced, or may be.
    @exclusivity(unchecked) var startsGroup = true

    init(_ segment: LogSegment, _ options: LogOptions) throws(FileError) {
        self.segment = segment
        self.options = options
        allocated = try segment.file.size()
    }

    deinit { buffer.deallocate() }

    /// What every frame of a group says.
    struct Stamp {
        var epoch: UInt32
        var durableTerm: Term
        var durableIndex: LogIndex
    }

    /// Writes frames behind the segment's end and returns the offset of the first. The segment's
    /// own fields stay as they are until the caller publishes the frames.
    func write(_ entries: [Entry], _ range: Range<Int>, _ stamp: Stamp) throws(FileError) -> UInt64
    {
        let start = segment.end
        let gap = startsGroup ? alignedToGroup(start) - start : 0
        var end = start + gap
        for place in range { end += UInt64(LogFrame.size + entries[place].encoded.count) }
        if options.sync == .never {
            let bytes = try mapped(through: end)
            encode(
                entries, range, stamp, gap: Int(gap), at: start,
                into: UnsafeMutableRawBufferPointer(rebasing: bytes[Int(start)..<Int(end)]))
        } else {
            try writeGroup(entries, range, stamp, start, gap: Int(gap), end)
        }
        startsGroup = false
        return start + gap
    }

    /// Before the file is cut or written by somebody else.
    func releaseMapping() {
        mappedBytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        mapping = nil
    }

    private func writeGroup(
        _ entries: [Entry], _ range: Range<Int>, _ stamp: Stamp, _ start: UInt64, gap: Int,
        _ end: UInt64
    ) throws(FileError) {
        let padded = alignedToGroup(end)
        let bytes = scratch(Int(padded - start))
        encode(entries, range, stamp, gap: gap, at: start, into: bytes)
        let tail = Int(end - start)
        UnsafeMutableRawBufferPointer(rebasing: bytes[tail...])
            .initializeMemory(as: UInt8.self, repeating: 0)
        try segment.file.write(UnsafeRawBufferPointer(bytes), at: start)
        if padded > allocated { fillAhead(from: padded) }
    }

    /// A failure only costs speed.
    private func fillAhead(from end: UInt64) {
        let step = min(end, options.aheadBytes)
        let zeros = scratch(Int(step))
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        allocated = end
        if (try? segment.file.write(UnsafeRawBufferPointer(zeros), at: end)) != nil {
            allocated += step
        }
    }

    private func scratch(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if buffer.count < count {
            buffer.deallocate()
            buffer = .allocate(byteCount: count, alignment: 16)
        }
        return UnsafeMutableRawBufferPointer(rebasing: buffer[0..<count])
    }

    private func mapped(through end: UInt64) throws(FileError) -> UnsafeMutableRawBufferPointer {
        if UInt64(mappedBytes.count) >= end { return mappedBytes }
        let step = options.aheadBytes
        let wish = max(allocated, end + min(end, 16 * step))
        let size = (wish + step - 1) / step * step
        let fresh = try segment.file.map(size: Int(size))
        mappedBytes = fresh.bytes
        mapping = fresh
        allocated = max(allocated, size)
        return mappedBytes
    }

    private func encode(
        _ entries: [Entry], _ range: Range<Int>, _ stamp: Stamp, gap: Int, at start: UInt64,
        into bytes: UnsafeMutableRawBufferPointer
    ) {
        if gap > 0 {
            UnsafeMutableRawBufferPointer(rebasing: bytes[0..<gap])
                .initializeMemory(as: UInt8.self, repeating: 0)
        }
        let cipher = segment.cipher
        var place = gap
        for number in range {
            let count = entries[number].encoded.count
            var frame = LogFrame(
                epoch: stamp.epoch, length: UInt32(count), durableTerm: stamp.durableTerm,
                durableIndex: stamp.durableIndex)
            let framePlace = LogFrame.Place(first: segment.first, offset: start + UInt64(place))
            // The entry first: a reader of a mapping must never see a frame before its content.
            let body = UnsafeMutableRawBufferPointer(
                rebasing: bytes[(place + LogFrame.size)..<(place + LogFrame.size + count)])
            entries[number].encoded.withUnsafeBytes {
                if let cipher {
                    frame.seal($0, to: body, at: framePlace, cipher)
                } else {
                    body.copyMemory(from: $0)
                }
            }
            frame.encode(
                into: UnsafeMutableRawBufferPointer(
                    rebasing: bytes[place..<(place + LogFrame.size)]),
                at: framePlace)
            place += LogFrame.size + count
        }
    }
}
