// A segment file read by itself, for `martlet log dump|verify`: recovery's own scan, without a cut,
// a base or neighbours. It judges nothing that needs them: whether a missing entry was promised and
// whether a tail is torn or rotten is only known when the whole log is opened.

package struct SegmentInspection: Sendable {
    /// One entry that counts, verified.
    package struct Item: Sendable {
        package var header: EntryHeader
        package var payload: [UInt8]
        /// Of its frame in the file.
        package var offset: UInt64
        package var epoch: UInt32
        /// What the node had durable when it wrote the frame.
        package var durable: LogIndex
    }

    /// Nil if the header is sound.
    package private(set) var headerDamage: String?
    package private(set) var first: LogIndex?
    package private(set) var last: Position?
    package private(set) var count = 0
    package private(set) var holes: [LogHole] = []
    package private(set) var end: UInt64 = 0
    package private(set) var size: UInt64 = 0
    package private(set) var hasLeftovers = false
    /// Offsets of frames whose entry holds its checksum and is not authentic.
    package private(set) var tampered: [UInt64] = []

    /// Nothing is missing between the first and the last entry.
    package var isWhole: Bool { headerDamage == nil && holes.isEmpty && tampered.isEmpty }

    /// Calls `each` for the entries in order until it returns false. Without a sound header the
    /// first index is taken from the file's name.
    package static func inspect(
        _ file: any File, keys: KeyRing = .plain, _ each: (Item) -> Bool
    ) throws(EngineError) -> SegmentInspection {
        var result = SegmentInspection()
        let header = try result.readHeader(file)
        guard let first = header?.first ?? index(ofName: file.path) else {
            throw .corrupt(
                file: file.path, offset: 0, reason: result.headerDamage ?? "not a log segment")
        }
        let cipher: FileCipher? = try keys.cipher(header?.key, .log, path: file.path)
        let window = try logIO { () throws(FileError) in
            try SegmentWindow(file, first: first, cipher)
        }
        let before = Position(term: .zero, index: first - 1, checksum: .zero)
        var scan = LogScan(
            after: header?.previous ?? before, isChainKnown: header != nil,
            rules: LogScan.Rules(
                group: header?.group ?? 0, cut: .zero, cutTerm: .zero, epoch: 0,
                countsCommit: false))
        if header != nil { scan.skip(to: first) }
        let segment = scan.scan(window, first: first, header: header, bound: nil)
        result.holes = scan.missing
        result.end = segment.end
        if result.end > result.size, result.headerDamage == nil {
            result.headerDamage = "the file ends within it, at byte \(result.size)"
        }
        result.hasLeftovers = segment.hasLeftovers
        if !result.hasLeftovers {
            result.hasLeftovers = try result.hasBytes(behind: segment.end, file)
        }
        result.tampered = window.tampered
        result.deliver(segment, window, each)
        return result
    }

    private mutating func readHeader(_ file: any File) throws(EngineError) -> SegmentHeader? {
        size = try logIO { () throws(FileError) in try file.size() }
        let bytes = try logIO { () throws(FileError) in
            try file.readBytes(at: 0, count: SegmentHeader.mirrorOffset + SegmentHeader.size)
        }
        let mirror = bytes.dropFirst(SegmentHeader.mirrorOffset)
            .withUnsafeBytes { try? SegmentHeader(decoding: $0) }
        do throws(DecodingError) {
            let header = try bytes.span.bytes.withUnsafeBytes { raw throws(DecodingError) in
                try SegmentHeader(decoding: raw)
            }
            if header.key != nil, header != mirror { headerDamage = "its second copy is damaged" }
            return header
        } catch {
            headerDamage =
                size < UInt64(SegmentHeader.size)
                ? "the file has only \(size) bytes" : error.description
        }
        return mirror?.key == nil ? nil : mirror
    }

    /// Whether anything was written behind the last frame, up to the footer of a sealed segment.
    private func hasBytes(behind end: UInt64, _ file: any File) throws(EngineError) -> Bool {
        guard SegmentFooter.readSummary(file) == nil else { return false }
        var offset = end
        while offset < size {
            let count = Int(min(size - offset, SegmentInspection.pieceBytes))
            let piece = try logIO { () throws(FileError) in
                try file.readBytes(at: offset, count: count)
            }
            if piece.contains(where: { $0 != 0 }) { return true }
            offset += UInt64(count)
        }
        return false
    }

    private static let pieceBytes: UInt64 = 1 << 20

    private mutating func deliver(
        _ segment: LogScan.Segment, _ window: SegmentWindow, _ each: (Item) -> Bool
    ) {
        var wantsMore = true
        for offset in segment.offsets where offset != OffsetTable.missing {
            guard let frame = window.frame(at: offset),
                let entry = window.entry(frame, at: offset)
            else { continue }
            let (header, bytes) = (entry.header, entry.bytes)
            count += 1
            if first == nil { first = header.index }
            last = Position(term: header.term, index: header.index, checksum: header.checksum)
            guard wantsMore else { continue }
            wantsMore = each(
                Item(
                    header: header, payload: [UInt8](bytes[EntryHeader.size...]), offset: offset,
                    epoch: frame.epoch, durable: frame.durableIndex))
        }
    }

    /// "<first index, 16 hex>.seg".
    private static func index(ofName path: String) -> LogIndex? {
        let name = path.split(separator: "/").last ?? ""
        guard name.utf8.count == 20, name.hasSuffix(".seg"),
            let value = UInt64(name.prefix(16), radix: 16), value > 0
        else { return nil }
        return LogIndex(value)
    }
}
