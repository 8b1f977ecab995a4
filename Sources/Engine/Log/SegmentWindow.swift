// Reads a segment file front to back through a window of memory, for recovery and for rewriting.
// Sectors that cannot be read appear as zeros: to the frame checks they are damage like any other.
// Entries come out decrypted.

final class SegmentWindow {
    private static let windowBytes = 1 << 20

    private let file: any File
    private let first: LogIndex
    private let cipher: FileCipher?
    let size: UInt64
    /// Frames whose entry has the right checksum and is not authentic.
    private(set) var tampered: [UInt64] = []
    private var memory = UnsafeMutableRawBufferPointer.allocate(
        byteCount: SegmentWindow.windowBytes, alignment: 16)
    private var start: UInt64 = 0
    private var count = 0
    /// The last entry that was decrypted.
    private var plain = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)

    convenience init(_ segment: LogSegment) throws(FileError) {
        try self.init(segment.file, first: segment.first, segment.cipher)
    }

    init(_ file: any File, first: LogIndex, _ cipher: FileCipher?) throws(FileError) {
        self.file = file
        self.first = first
        self.cipher = cipher
        size = try file.size()
    }

    deinit {
        memory.deallocate()
        plain.deallocate()
    }

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
    func frame(at offset: UInt64) -> LogFrame? {
        guard let bytes = bytes(at: offset, count: LogFrame.size) else { return nil }
        return LogFrame(decoding: bytes, at: LogFrame.Place(first: first, offset: offset))
    }

    /// An entry that holds its checksum and, if the segment is encrypted, is authentic. The bytes
    /// are borrowed until the next call.
    struct VerifiedEntry {
        var header: EntryHeader
        var bytes: UnsafeRawBufferPointer
    }

    /// The entry behind the frame at `offset`: from the cache, else from the medium.
    func entry(_ frame: LogFrame, at offset: UInt64) -> VerifiedEntry? {
        let body = offset + UInt64(LogFrame.size)
        guard let bytes = bytes(at: body, count: Int(frame.length)) else { return nil }
        if let entry = verify(bytes, frame, at: offset) { return entry }
        let again = try? file.readBytes(at: body, count: Int(frame.length), fromMedium: true)
        guard let again, again.count == Int(frame.length), start <= body else { return nil }
        // What the medium holds takes the place of what the cache held.
        let place = Int(body - start)
        let target = UnsafeMutableRawBufferPointer(
            rebasing: memory[place..<(place + again.count)])
        again.withUnsafeBytes { target.copyMemory(from: $0) }
        return verify(UnsafeRawBufferPointer(target), frame, at: offset)
    }

    private func verify(_ stored: UnsafeRawBufferPointer, _ frame: LogFrame, at offset: UInt64)
        -> VerifiedEntry?
    {
        guard frame.isEncrypted == (cipher != nil) else { return nil }
        var bytes = stored
        var isAuthentic = true
        if let cipher {
            let target = room(stored.count)
            let place = LogFrame.Place(first: first, offset: offset)
            isAuthentic = frame.open(stored, to: target, at: place, cipher)
            bytes = UnsafeRawBufferPointer(target)
        }
        guard let header = EntryHeader(ifIntact: bytes) else { return nil }
        guard isAuthentic else {
            if tampered.last != offset { tampered.append(offset) }
            return nil
        }
        return VerifiedEntry(header: header, bytes: bytes)
    }

    private func room(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if plain.count < count {
            plain.deallocate()
            plain = .allocate(byteCount: count, alignment: 16)
        }
        return UnsafeMutableRawBufferPointer(rebasing: plain[..<count])
    }

    /// The unverified header of an entry that was verified before, by the offset of its frame.
    func parsedHeader(at offset: UInt64) -> EntryHeader? {
        let body = offset &+ UInt64(LogFrame.size)
        if let cipher {
            guard let frame = frame(at: offset), frame.isEncrypted,
                let stored = bytes(at: body, count: EntryHeader.size)
            else { return nil }
            // A part of the message never authenticates.
            let target = room(EntryHeader.size)
            let place = LogFrame.Place(first: first, offset: offset)
            _ = frame.open(stored, to: target, at: place, cipher)
            return try? EntryHeader(parsing: UnsafeRawBufferPointer(target))
        }
        guard let bytes = bytes(at: body, count: EntryHeader.size) else { return nil }
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
