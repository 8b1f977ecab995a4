// Header and footer of a segment file. The header fills the first 512 bytes; an encrypted segment
// has it once more in another page, since without the salt nothing in it could be read. The footer
// stands behind the frames of a sealed segment: a table of frame offsets, a summary, and a trailer
// in the last 64 bytes of the file. The footer only saves time: what it says can be rebuilt by
// walking the frames, and recovery never believes one above the last flushed segment.
// docs/formats/log.md has the layout.

package struct SegmentHeader: Hashable, Sendable {
    package static let size = 512
    package static let magic: UInt64 = 0x3147_4553_544c_544d  // "MTLTSEG1"
    package static let version: UInt16 = 1
    private static let checksumOffset = 508
    private static let keyOffset = checksumOffset - FileKeyHeader.size
    /// Where an encrypted segment has its header again: a medium loses whole pages.
    static let mirrorOffset = 4096

    package var group: UInt32
    /// The epoch in which the file got this name; frames of a lower one are not part of it.
    package var epoch: UInt32
    package var genesis: Digest128
    package var first: LogIndex
    /// The entry before the first. Its index is `first − 1`, unless indexes were skipped.
    package var previous: Position
    /// In force before the first entry; they decide where this segment ends.
    package var settings: LoggedSettings
    /// Of the key that encrypts the entries; nil if they are plain.
    package var key: FileKeyHeader?

    /// Where frames begin.
    package var dataStart: UInt64 {
        UInt64(SegmentHeader.size + (key == nil ? 0 : SegmentHeader.mirrorOffset))
    }

    /// All of what stands before the frames.
    package func encodedForFile() -> [UInt8] {
        let bytes = encoded()
        guard key != nil else { return bytes }
        let gap = [UInt8](repeating: 0, count: SegmentHeader.mirrorOffset - SegmentHeader.size)
        return bytes + gap + bytes
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: SegmentHeader.size)
        writer.write(SegmentHeader.magic)
        writer.write(SegmentHeader.version)
        writer.write(UInt16(key == nil ? 0 : 1))
        writer.write(group)
        writer.write(epoch)
        writer.write(genesis)
        writer.write(first.rawValue)
        writer.write(previous)
        writer.write(raw: settings.encoded())
        let end = key == nil ? SegmentHeader.checksumOffset : SegmentHeader.keyOffset
        writer.write(raw: [UInt8](repeating: 0, count: end - writer.count))
        key?.encode(into: &writer)
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    package init(
        group: UInt32, epoch: UInt32, genesis: Digest128, first: LogIndex, previous: Position,
        settings: LoggedSettings, key: FileKeyHeader? = nil
    ) {
        self.group = group
        self.epoch = epoch
        self.genesis = genesis
        self.first = first
        self.previous = previous
        self.settings = settings
        self.key = key
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = try SegmentHeader.reader(of: bytes)
        let version = try reader.read(UInt16.self)
        let flags = try reader.read(UInt16.self)
        guard version == SegmentHeader.version, flags <= 1 else {
            throw DecodingError("segment version \(version), flags \(flags) are not supported")
        }
        group = try reader.read(UInt32.self)
        epoch = try reader.read(UInt32.self)
        genesis = try reader.readDigest()
        first = try reader.readLogIndex()
        previous = try reader.readPosition()
        settings = try LoggedSettings(&reader)
        guard first > .zero, previous.index < first, epoch < logEpochLimit else {
            throw DecodingError("a segment header field is out of range")
        }
        guard flags == 1 else { return }
        var keyReader = ByteReader(
            UnsafeRawBufferPointer(rebasing: reader.bytes[SegmentHeader.keyOffset...]))
        key = try FileKeyHeader(&keyReader)
    }
}

extension SegmentHeader {
    /// Stands at the version, behind the magic number, and the checksum is right.
    private static func reader(of bytes: UnsafeRawBufferPointer) throws(DecodingError) -> ByteReader
    {
        guard bytes.count >= size else { throw DecodingError("ends early") }
        let body = UnsafeRawBufferPointer(rebasing: bytes[0..<checksumOffset])
        var tailReader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[checksumOffset..<size]))
        guard try tailReader.read(UInt32.self) == Checksum.crc32c(body) else {
            throw DecodingError("segment header checksum does not match")
        }
        var reader = ByteReader(body)
        guard try reader.read(UInt64.self) == magic else {
            throw DecodingError("not a log segment")
        }
        return reader
    }

    /// The header at `offset` if it is sound and of the segment that begins with `first`.
    static func read(_ file: any File, at offset: UInt64, first: LogIndex) -> SegmentHeader? {
        let bytes = (try? file.readBytes(at: offset, count: size)) ?? []
        let header = bytes.withUnsafeBytes { try? SegmentHeader(decoding: $0) }
        return header?.first == first ? header : nil
    }

    /// The version of a sound header that this build cannot read; nil for any other.
    static func unsupportedVersion(_ file: any File) -> UInt16? {
        guard let bytes = try? file.readBytes(at: 0, count: size) else { return nil }
        return bytes.withUnsafeBytes { raw in
            guard var reader = try? SegmentHeader.reader(of: raw),
                let found = try? reader.read(UInt16.self),
                found != version
            else { return nil }
            return found
        }
    }
}

/// A stretch of entries of one term.
package struct TermRun: Hashable, Sendable {
    package var term: Term
    package var first: LogIndex

    package init(term: Term, first: LogIndex) {
        self.term = term
        self.first = first
    }
}

/// What a sealed segment holds, without its offsets.
package struct SegmentSummary: Hashable, Sendable {
    package static let version: UInt16 = 1

    package var first: LogIndex
    package var last: Position
    /// First index of the next segment; more than `last + 1` if indexes were skipped.
    package var next: LogIndex
    /// End of the last frame.
    package var end: UInt64
    package var termRuns: [TermRun]

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(SegmentSummary.version)
        writer.write(first.rawValue)
        writer.write(last)
        writer.write(next.rawValue)
        writer.write(end)
        writer.writeVarint(UInt64(termRuns.count))
        for run in termRuns {
            writer.write(run.term.rawValue)
            writer.write(run.first.rawValue)
        }
        return writer.bytes
    }

    package init(first: LogIndex, last: Position, next: LogIndex, end: UInt64, termRuns: [TermRun])
    {
        self.first = first
        self.last = last
        self.next = next
        self.end = end
        self.termRuns = termRuns
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt16.self)
        guard version == SegmentSummary.version else {
            throw DecodingError("footer version \(version) is not supported")
        }
        first = try reader.readLogIndex()
        last = try reader.readPosition()
        next = try reader.readLogIndex()
        end = try reader.read(UInt64.self)
        guard first > .zero, first <= last.index, last.index < next,
            last.index - first <= LogScan.gapMax
        else {
            throw DecodingError("footer indexes are out of range")
        }
        let count = try reader.readVarint(atMost: UInt64(reader.remaining / 16), "a run count")
        termRuns = []
        for _ in 0..<count {
            let term = try reader.readTerm()
            let start = try reader.readLogIndex()
            if let before = termRuns.last {
                guard before.term < term, before.first < start else {
                    throw DecodingError("term runs are not in order")
                }
            }
            termRuns.append(TermRun(term: term, first: start))
        }
        try reader.expectEnd("a footer")
    }
}

/// Where table and summary stand; the last bytes of a sealed segment.
package struct SegmentTrailer: Hashable, Sendable {
    package static let size = 64
    package static let magic: UInt64 = 0x3152_544f_4f46_544d  // "MTFOOTR1"

    package var tableOffset: UInt64
    package var tableLength: UInt64
    package var tableChecksum: UInt32
    package var summaryLength: UInt32
    package var summaryChecksum: UInt32

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: SegmentTrailer.size)
        writer.write(SegmentTrailer.magic)
        writer.write(tableOffset)
        writer.write(tableLength)
        writer.write(tableChecksum)
        writer.write(summaryLength)
        writer.write(summaryChecksum)
        writer.write(raw: [UInt8](repeating: 0, count: SegmentTrailer.size - 4 - writer.count))
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    package init(
        tableOffset: UInt64, tableLength: UInt64, tableChecksum: UInt32, summaryLength: UInt32,
        summaryChecksum: UInt32
    ) {
        self.tableOffset = tableOffset
        self.tableLength = tableLength
        self.tableChecksum = tableChecksum
        self.summaryLength = summaryLength
        self.summaryChecksum = summaryChecksum
    }

    /// `fileSize` bounds what the trailer may point at.
    package init(decoding bytes: UnsafeRawBufferPointer, fileSize: UInt64) throws(DecodingError) {
        guard bytes.count == SegmentTrailer.size else { throw DecodingError("ends early") }
        let body = UnsafeRawBufferPointer(rebasing: bytes[0..<(SegmentTrailer.size - 4)])
        var reader = ByteReader(bytes)
        guard try reader.read(UInt64.self) == SegmentTrailer.magic else {
            throw DecodingError("no footer")
        }
        tableOffset = try reader.read(UInt64.self)
        tableLength = try reader.read(UInt64.self)
        tableChecksum = try reader.read(UInt32.self)
        summaryLength = try reader.read(UInt32.self)
        summaryChecksum = try reader.read(UInt32.self)
        _ = try reader.readBytes(reader.remaining - 4)
        guard try reader.read(UInt32.self) == Checksum.crc32c(body) else {
            throw DecodingError("footer checksum does not match")
        }
        guard tableOffset <= fileSize, tableLength <= fileSize - tableOffset,
            UInt64(summaryLength) <= fileSize - tableOffset - tableLength
        else { throw DecodingError("footer points outside its file") }
    }
}

/// The offsets of a segment's frames, in index order.
package enum OffsetTable {
    /// Stands for an entry that this file does not hold.
    package static let missing = UInt64.max

    /// varint distance from the frame before (the first: from 0) for each entry; 0 for a missing
    /// one.
    package static func encoded(_ offsets: [UInt64]) -> [UInt8] {
        var writer = ByteWriter(capacity: offsets.count * 2)
        var before: UInt64 = 0
        for offset in offsets {
            if offset == missing {
                writer.writeVarint(0)
            } else {
                writer.writeVarint(offset - before)
                before = offset
            }
        }
        return writer.bytes
    }

    package static func decode(_ bytes: UnsafeRawBufferPointer, below end: UInt64)
        throws(DecodingError)
        -> [UInt64]
    {
        var reader = ByteReader(bytes)
        var offsets: [UInt64] = []
        var before: UInt64 = 0
        while !reader.isAtEnd {
            let distance = try reader.readVarint()
            guard distance < end - before else { throw DecodingError("an offset is out of range") }
            before += distance
            offsets.append(distance == 0 ? missing : before)
        }
        return offsets
    }
}

/// What stands behind the frames of a sealed segment.
package enum SegmentFooter {
    /// The bytes from `offset`, a group boundary at or above the last frame's end, to the file's
    /// end.
    package static func encoded(_ offsets: [UInt64], _ summary: SegmentSummary, at offset: UInt64)
        -> [UInt8]
    {
        let table = OffsetTable.encoded(offsets)
        let tail = summary.encoded()
        let trailer = SegmentTrailer(
            tableOffset: offset, tableLength: UInt64(table.count),
            tableChecksum: Checksum.crc32c(table), summaryLength: UInt32(tail.count),
            summaryChecksum: Checksum.crc32c(tail))
        var bytes = table + tail
        let end = alignedToGroup(UInt64(bytes.count + SegmentTrailer.size))
        bytes += [UInt8](repeating: 0, count: Int(end) - SegmentTrailer.size - bytes.count)
        return bytes + trailer.encoded()
    }

    /// Where a segment's trailer starts, which leads to the rest of its footer; nil in a file that
    /// is too short for one.
    static func offset(_ file: any File) -> UInt64? {
        let size = UInt64(SegmentTrailer.size)
        return (try? file.size()).flatMap { $0 >= size ? $0 - size : nil }
    }

    package static func readTrailer(_ file: any File) -> SegmentTrailer? {
        do {
            let size = try file.size()
            guard size >= UInt64(SegmentTrailer.size) else { return nil }
            let bytes = try file.readBytes(
                at: size - UInt64(SegmentTrailer.size), count: SegmentTrailer.size)
            return try decode(bytes) { raw throws(DecodingError) in
                try SegmentTrailer(decoding: raw, fileSize: size)
            }
        } catch { return nil }
    }

    /// Nil if there is no footer or it is damaged.
    package static func readSummary(_ file: any File) -> SegmentSummary? {
        guard let trailer = readTrailer(file) else { return nil }
        do {
            let bytes = try file.readBytes(
                at: trailer.tableOffset + trailer.tableLength, count: Int(trailer.summaryLength))
            guard Checksum.crc32c(bytes) == trailer.summaryChecksum else { return nil }
            let summary = try decode(bytes) { raw throws(DecodingError) in
                try SegmentSummary(decoding: raw)
            }
            let isInFile =
                summary.end >= UInt64(SegmentHeader.size) && summary.end <= trailer.tableOffset
            return isInFile ? summary : nil
        } catch { return nil }
    }

    /// Nil if there is no footer or it is damaged.
    package static func readOffsets(_ file: any File) -> [UInt64]? {
        guard let trailer = readTrailer(file) else { return nil }
        do {
            let bytes = try file.readBytes(
                at: trailer.tableOffset, count: Int(trailer.tableLength))
            guard Checksum.crc32c(bytes) == trailer.tableChecksum else { return nil }
            return try decode(bytes) { raw throws(DecodingError) in
                try OffsetTable.decode(raw, below: trailer.tableOffset)
            }
        } catch { return nil }
    }

    private static func decode<R>(
        _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(DecodingError) -> R
    ) throws(DecodingError) -> R {
        var result: Result<R, DecodingError> = .failure(DecodingError("is empty"))
        bytes.withUnsafeBytes { raw in
            do throws(DecodingError) { result = .success(try body(raw)) } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }
}
