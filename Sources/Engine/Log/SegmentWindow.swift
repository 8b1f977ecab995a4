// Reads a segment file front to back through a window of memory, for recovery and for rewriting.
// Sectors that cannot be read appear as zeros: to the frame checks they are damage like any other.

final class SegmentWindow {
    private static let windowBytes = 1 << 20

    private let file: any File
    let size: UInt64
    private var memory = UnsafeMutableRawBufferPointer.allocate(
        byteCount: SegmentWindow.windowBytes, alignment: 16)
    private var start: UInt64 = 0
    private var count = 0

    init(_ file: any File) throws(FileError) {
        self.file = file
        size = try file.size()
    }

    deinit { memory.deallocate() }

    /// Borrowed until the next call; nil if the range is not all inside the file.
    func bytes(at offset: UInt64, count wanted: Int) -> UnsafeRawBufferPointer? {
        guard offset <= size, UInt64(wanted) <= size - offset else { return nil }
        if offset < start || offset + UInt64(wanted) > start + UInt64(count) {
            fill(from: offset, atLeast: wanted)
        }
        let place = Int(offset - start)
        return UnsafeRawBufferPointer(rebasing: memory[place..<(place + wanted)])
    }

    private func fill(from offset: UInt64, atLeast wanted: Int) {
        let wish = max(wanted, SegmentWindow.windowBytes)
        if memory.count < wish {
            memory.deallocate()
            memory = .allocate(byteCount: wish, alignment: 16)
        }
        start = offset
        count = Int(min(UInt64(wish), size - offset))
        let target = UnsafeMutableRawBufferPointer(rebasing: memory[0..<count])
        if let got = try? file.read(at: offset, into: target), got == count { return }
        fillBySectors(target)
    }

    private func fillBySectors(_ target: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < target.count {
            let length = min(Int(LogFrame.groupAlignment), target.count - done)
            let sector = UnsafeMutableRawBufferPointer(rebasing: target[done..<(done + length)])
            let got = try? file.read(at: start + UInt64(done), into: sector)
            if got != length { sector.initializeMemory(as: UInt8.self, repeating: 0) }
            done += length
        }
    }

    /// The frame at `offset`, if one was written there.
    func frame(at offset: UInt64, first: LogIndex) -> LogFrame? {
        guard let bytes = bytes(at: offset, count: LogFrame.size) else { return nil }
        return LogFrame(decoding: bytes, at: LogFrame.Place(first: first, offset: offset))
    }

    /// The verified entry behind a frame: from the cache, else from the medium.
    func entryHeader(at offset: UInt64, length: Int) -> EntryHeader? {
        guard let bytes = bytes(at: offset, count: length) else { return nil }
        if let header = EntryHeader(ifIntact: bytes) { return header }
        guard let again = try? file.readBytes(at: offset, count: length, fromMedium: true) else {
            return nil
        }
        return again.withUnsafeBytes { EntryHeader(ifIntact: $0) }
    }

    /// The unverified header of an entry that was verified before.
    func parsedHeader(at offset: UInt64) -> EntryHeader? {
        guard let bytes = bytes(at: offset, count: EntryHeader.size) else { return nil }
        return try? EntryHeader(parsing: bytes)
    }
}

extension EntryHeader {
    /// Nil unless the bytes are exactly one entry whose checksum holds.
    init?(ifIntact bytes: UnsafeRawBufferPointer) {
        guard let header = try? EntryHeader(parsing: bytes),
            bytes.count == EntryHeader.size + Int(header.length),
            Digest128(of: UnsafeRawBufferPointer(rebasing: bytes[16...])) == header.checksum
        else { return nil }
        self = header
    }
}
