// Where the blocks of a file lie: read from the block map at its end, or, when that is damaged,
// rebuilt by walking block headers. Positions are only hints: a block proves itself when loaded.

struct BlockMap {
    /// Where each block's header starts; 0 where unknown.
    var offsets: [UInt64] = []
    var storedLengths: [UInt32] = []

    init(
        _ file: any File, _ size: UInt64, _ footer: TableFooter, _ fromMedium: Bool
    ) throws(FileDamage) {
        // The footer lies in the file, so its size bounds what is read and allocated.
        guard footer.mapOffset <= size, footer.mapBytes <= size - footer.mapOffset else {
            throw FileDamage(
                at: size - UInt64(TableFormat.footerBytes),
                "by the footer the block map lies beyond the end of the file")
        }
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try file.readBytes(
                at: footer.mapOffset, count: Int(footer.mapBytes), fromMedium: fromMedium)
        } catch {
            throw FileDamage(at: footer.mapOffset, error.description)
        }
        guard bytes.count == Int(footer.mapBytes),
            Checksum.crc32c(bytes) == footer.mapChecksum
        else { throw FileDamage(at: footer.mapOffset, "the block map's checksum is wrong") }
        let count = Int(footer.blockCount)
        offsets.reserveCapacity(count)
        storedLengths.reserveCapacity(count)
        bytes.withUnsafeBytes { raw in
            for ordinal in 0..<count {
                let place = ordinal * TableFormat.mapEntryBytes
                offsets.append(
                    UInt64(
                        littleEndian: raw.loadUnaligned(fromByteOffset: place, as: UInt64.self)))
                storedLengths.append(
                    UInt32(
                        littleEndian: raw.loadUnaligned(
                            fromByteOffset: place + 8, as: UInt32.self)))
            }
        }
    }

    /// Follows block headers from the start; behind a damaged one it looks for the next sound
    /// header of this table. Each byte is read a bounded number of times.
    init(walking file: any File, _ size: UInt64, _ table: TableID, _ fromMedium: Bool) {
        let headerBytes = TableFormat.blockHeaderBytes
        var window = Window(file: file, size: size, fromMedium: fromMedium)
        var offset = UInt64(TableFormat.fileHeaderBytes)
        while offset + UInt64(headerBytes) <= size {
            guard let bytes = window.bytes(at: offset, count: headerBytes) else {
                // Unreadable: go on behind the page.
                offset = (offset / 4096 + 1) * 4096
                continue
            }
            let header = bytes.withUnsafeBytes { BlockHeader(decoding: $0) }
            if let header, header.table == table,
                UInt64(header.storedLength) <= size - offset - UInt64(headerBytes)
            {
                if header.type.isCanonical { note(header, at: offset, size) }
                offset += UInt64(headerBytes) + UInt64(header.storedLength)
            } else {
                offset = window.nextMagic(after: offset)
            }
        }
    }

    /// The table that the first sound block header names: whose file it is where the file header
    /// is damaged. Nil if no header is sound.
    static func owner(of file: any File, _ size: UInt64) -> TableID? {
        let headerBytes = TableFormat.blockHeaderBytes
        var window = Window(file: file, size: size, fromMedium: false)
        var offset = UInt64(0)
        while size >= UInt64(headerBytes), offset <= size - UInt64(headerBytes) {
            guard let bytes = window.bytes(at: offset, count: headerBytes) else {
                offset = (offset / 4096 + 1) * 4096
                continue
            }
            if let header = bytes.withUnsafeBytes({ BlockHeader(decoding: $0) }) {
                return header.table
            }
            offset = window.nextMagic(after: offset)
        }
        return nil
    }

    /// The first sound header of an ordinal wins. A file of `size` bytes cannot hold more blocks
    /// than headers fit, which bounds what an ordinal may make us allocate.
    private mutating func note(_ header: BlockHeader, at offset: UInt64, _ size: UInt64) {
        let ordinal = Int(header.ordinal.rawValue)
        guard UInt64(ordinal) < size / UInt64(TableFormat.blockHeaderBytes) else { return }
        while offsets.count <= ordinal {
            offsets.append(0)
            storedLengths.append(0)
        }
        guard offsets[ordinal] == 0 else { return }
        offsets[ordinal] = offset
        storedLengths[ordinal] = header.storedLength
    }

    /// Reads a file in large pieces for a caller that moves forward.
    private struct Window {
        static let length = 256 << 10
        let file: any File
        let size: UInt64
        let fromMedium: Bool
        var start: UInt64 = 0
        var content: [UInt8] = []

        init(file: any File, size: UInt64, fromMedium: Bool) {
            self.file = file
            self.size = size
            self.fromMedium = fromMedium
        }

        mutating func bytes(at offset: UInt64, count: Int) -> ArraySlice<UInt8>? {
            if offset < start || offset + UInt64(count) > start + UInt64(content.count) {
                guard refill(at: offset), content.count >= count else { return nil }
            }
            let from = Int(offset - start)
            return content[from..<(from + count)]
        }

        /// A whole window if it can be read, else the rest of one page.
        private mutating func refill(at offset: UInt64) -> Bool {
            let page = 4096 + TableFormat.blockHeaderBytes
            for length in [Window.length, page, TableFormat.blockHeaderBytes] {
                let count = Int(min(UInt64(length), size - offset))
                do throws(FileError) {
                    content = try file.readBytes(
                        at: offset, count: count, fromMedium: fromMedium)
                    start = offset
                    return true
                } catch {
                    content = []
                }
            }
            return false
        }

        /// Offset of the next place after `offset` that starts like a block header, or a place
        /// from which to look on.
        mutating func nextMagic(after offset: UInt64) -> UInt64 {
            let first = UInt8(truncatingIfNeeded: TableFormat.blockMagic)
            var next = offset + 1
            while next < start + UInt64(content.count), content[Int(next - start)] != first {
                next += 1
            }
            return next
        }
    }
}
