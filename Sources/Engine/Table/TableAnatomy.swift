// The bytes of one part of a table file with a name for each piece: what `martlet sst hex` prints.
// Shows what stands in the file, right or wrong, and says what does not check; so it needs neither
// a sound header nor a sound footer. Field layouts are those of TableFormat.swift.

/// Bytes of a part that mean one thing.
package struct NamedBytes: Sendable, Hashable {
    /// In the part.
    package var range: Range<Int>
    package var name: String
    /// What they say, where that is not plain from the bytes.
    package var meaning: String
}

package struct TablePart: Sendable {
    package var title: String
    /// Where it starts in the file; nil for bytes that were decoded.
    package var offset: UInt64?
    package var bytes: [UInt8]
    /// In order; bytes between them have no name.
    package var pieces: [NamedBytes] = []
    package var damage: String?
}

package enum TableAnatomy {
    package enum Selection: Sendable, Hashable {
        case fileHeader
        /// The zstd dictionary in front of the first block.
        case dictionary
        case block(UInt32, isDecoded: Bool)
        case blockMap
        case footer
    }

    /// The parts of `selection` in the order of the file. `.corrupt` if the file is no table's or
    /// holds no such block. `keys` decrypt what is not shown as it is stored.
    package static func parts(
        of file: any File, _ selection: Selection, keys: KeyRing = .plain
    ) throws(EngineError) -> [TablePart] {
        let size = try engineError { () throws(FileError) in try file.size() }
        switch selection {
        case .fileHeader:
            let bytes = try read(file, at: 0, count: TableFormat.fileHeaderBytes)
            return [fileHeader(bytes)]
        case .dictionary: return try dictionary(file, size, keys)
        case .footer:
            let length = min(UInt64(TableFormat.footerBytes), size)
            return [footer(try read(file, at: size - length, count: Int(length)), size)]
        case .blockMap: return [try blockMap(file, size)]
        case .block(let ordinal, let isDecoded):
            return try block(file, BlockOrdinal(ordinal), isDecoded: isDecoded, keys)
        }
    }

    private static func read(_ file: any File, at offset: UInt64, count: Int) throws(EngineError)
        -> [UInt8]
    {
        try engineError { () throws(FileError) in try file.readBytes(at: offset, count: count) }
    }

    // MARK: Local parts

    private static func fileHeader(_ bytes: [UInt8]) -> TablePart {
        var part = TablePart(title: "file header", offset: 0, bytes: bytes)
        part.damage = reason { () throws(DecodingError) in
            _ = try bytes.withBytes { (raw) throws(DecodingError) in
                try TableLocalHeader(decoding: raw)
            }
        }
        part.pieces = NamedBytes.layOut(
            bytes,
            [
                (8, "magic", .text), (2, "version", .number), (2, "flags", .number),
                (4, "key epoch", .number), (8, "table index", .number), (1, "table kind", .text),
                (1, "codec", .codec), (1, "parity", .number), (1, "zero", .number),
                (4, "table ordinal", .number), (8, "generation", .number), (32, "key salt", .bytes),
                (16, "key check", .bytes), (36, "reserved", .bytes), (4, "checksum", .number),
            ])
        return part
    }

    private static func footer(_ bytes: [UInt8], _ size: UInt64) -> TablePart {
        var part = TablePart(title: "footer", offset: size - UInt64(bytes.count), bytes: bytes)
        part.damage = reason { () throws(DecodingError) in
            _ = try bytes.withBytes { (raw) throws(DecodingError) in
                try TableFooter(decoding: raw)
            }
        }
        part.pieces = NamedBytes.layOut(
            bytes,
            [
                (8, "magic", .text), (2, "version", .number), (2, "flags", .number),
                (4, "blocks", .number), (8, "block map offset", .number),
                (4, "block map checksum", .number),
                (4, "dictionary length", .number), (8, "parity offset", .number),
                (8, "parity length", .number),
                (16, "digest", .digest), (12, "reserved", .bytes), (4, "checksum", .number),
            ])
        return part
    }

    private static func blockMap(_ file: any File, _ size: UInt64) throws(EngineError) -> TablePart
    {
        let length = min(UInt64(TableFormat.footerBytes), size)
        let bytes = try read(file, at: size - length, count: Int(length))
        let footer: TableFooter
        do throws(DecodingError) {
            footer = try bytes.withBytes { (raw) throws(DecodingError) in
                try TableFooter(decoding: raw)
            }
        } catch {
            throw .corrupt(
                file: file.path, offset: size - length,
                reason: "\(error); without a footer no block map is found")
        }
        guard footer.mapOffset <= size, footer.mapBytes <= size - footer.mapOffset else {
            throw .corrupt(
                file: file.path, offset: size - length,
                reason: "by the footer the block map lies beyond the end of the file")
        }
        var part = TablePart(
            title: "block map", offset: footer.mapOffset,
            bytes: try read(file, at: footer.mapOffset, count: Int(footer.mapBytes)))
        if Checksum.crc32c(part.bytes) != footer.mapChecksum {
            part.damage = "the block map's checksum is wrong"
        }
        let fields = (0..<part.bytes.count / TableFormat.mapEntryBytes).flatMap { ordinal in
            [
                NamedBytes.Field(8, "block \(ordinal) offset", .number),
                NamedBytes.Field(4, "block \(ordinal) stored length", .number),
            ]
        }
        part.pieces = NamedBytes.layOut(part.bytes, fields)
        return part
    }

    /// Both of its parts, if the file has one by its footer or by the block header in its place.
    private static func dictionary(_ file: any File, _ size: UInt64, _ keys: KeyRing)
        throws(EngineError) -> [TablePart]
    {
        let length = min(UInt64(TableFormat.footerBytes), size)
        let end = try read(file, at: size - length, count: Int(length))
        let claimed = try? end.withBytes { (raw) throws(DecodingError) in
            try TableFooter(decoding: raw).dictionaryBytes
        }
        let start = BlockDictionary.offset
        let headerBytes = try read(file, at: start, count: TableFormat.blockHeaderBytes)
        let found = headerBytes.withUnsafeBytes { BlockHeader(decoding: $0) }
        let stored = found?.type == .dictionary ? found?.storedLength : nil
        guard let count = stored ?? claimed, count > 0, count <= BlockDictionary.bytesMax else {
            throw .corrupt(file: file.path, reason: "there is no dictionary in it")
        }
        var header = blockHeader(headerBytes, at: start)
        header.title = "dictionary"
        let place = start + UInt64(TableFormat.blockHeaderBytes)
        var body = TablePart(
            title: "stored bytes", offset: place,
            bytes: try read(file, at: place, count: Int(count)))
        let table = try SalvageSource(file, keys: keys).table
        do throws(FileDamage) {
            _ = try BlockDictionary.load(
                file, size, of: table.id, length: Int(count), cipher: table.cipher,
                fromMedium: false)
        } catch { body.damage = error.reason }
        return [header, body]
    }

    // MARK: Blocks

    private static func block(
        _ file: any File, _ ordinal: BlockOrdinal, isDecoded: Bool, _ keys: KeyRing
    ) throws(EngineError) -> [TablePart] {
        let source = try SalvageSource(file, keys: keys)
        let table = source.table
        guard let place = table.place(of: ordinal), place.offset < table.size else {
            throw .corrupt(
                file: file.path, offset: table.place(of: ordinal)?.offset,
                reason: "block \(ordinal.rawValue) is not to be found;"
                    + " there are traces of \(table.blockCount)")
        }
        let headerBytes = try read(
            file, at: place.offset, count: TableFormat.blockHeaderBytes)
        var header = blockHeader(headerBytes, at: place.offset)
        header.title = "block \(ordinal.rawValue)"
        let found = table.blockHeader(ordinal)
        let type = found?.type ?? source.type(of: ordinal)
        let (content, damage) = load(source, ordinal, type)
        var body = TablePart(title: "content", offset: nil, bytes: content ?? [], damage: damage)
        if !isDecoded {
            let start = place.offset + UInt64(TableFormat.blockHeaderBytes)
            let left = start < table.size ? table.size - start : 0
            body.title = "stored bytes"
            body.offset = start
            body.bytes = try read(
                file, at: start, count: Int(min(UInt64(place.storedLength), left)))
        }
        if type == .data, let content, content == body.bytes {
            body.pieces = dataPieces(content)
        }
        return [header, body]
    }

    private static func load(
        _ source: SalvageSource, _ ordinal: BlockOrdinal, _ type: BlockType?
    ) -> (content: [UInt8]?, damage: String?) {
        guard let type else { return (nil, "nothing tells what it is") }
        do throws(FileDamage) {
            let block = try source.load(ordinal, type)
            defer { block.deallocate() }
            return ([UInt8](block.canonical), nil)
        } catch {
            return (nil, error.reason)
        }
    }

    private static func blockHeader(_ bytes: [UInt8], at offset: UInt64) -> TablePart {
        var part = TablePart(title: "block", offset: offset, bytes: bytes)
        if bytes.withUnsafeBytes({ BlockHeader(decoding: $0) }) == nil {
            part.damage = "its header is damaged"
        }
        part.pieces = NamedBytes.layOut(
            bytes,
            [
                (4, "magic", .text), (1, "type", .type), (1, "codec", .codec),
                (2, "flags", .number), (4, "ordinal", .number), (4, "table ordinal", .number),
                (8, "table index", .number), (4, "table kind", .text),
                (4, "canonical length", .number), (4, "stored length", .number),
                (4, "stored checksum", .number), (16, "digest", .digest), (16, "tag", .digest),
                (4, "zero", .number), (4, "checksum", .number),
            ])
        return part
    }

    /// Of a canonical data block; none if it does not decode.
    private static func dataPieces(_ bytes: [UInt8]) -> [NamedBytes] {
        bytes.withUnsafeBytes { raw in
            guard let base = raw.baseAddress, (try? DataBlockFormat.validate(raw)) != nil else {
                return []
            }
            let block = DataBlock(base)
            var fields: [NamedBytes.Field] = [
                .init(3, "entries", .number), .init(1, "flags", .number),
                .init(8, "base sequence", .number), .init(block.count, "tags", .bytes),
                .init(block.count * block.offsetBytes, "offsets", .bytes),
            ]
            var at = fields.reduce(0) { $0 + $1.length }
            for index in 0..<block.count {
                let end = index + 1 < block.count ? block.offset(index + 1) : raw.count
                fields.append(.init(end - at, "entry \(index)", .bytes))
                at = end
            }
            return NamedBytes.layOut(bytes, fields)
        }
    }

    private static func reason(_ body: () throws(DecodingError) -> Void) -> String? {
        do throws(DecodingError) {
            try body()
            return nil
        } catch { return error.description }
    }
}

extension NamedBytes {
    /// How a field's meaning is told.
    enum Form {
        case number, text, bytes, digest, type, codec
    }

    struct Field {
        var length: Int
        var name: String
        var form: Form

        init(_ length: Int, _ name: String, _ form: Form) {
            self.length = length
            self.name = name
            self.form = form
        }
    }

    static func layOut(_ bytes: [UInt8], _ fields: [(Int, String, Form)]) -> [NamedBytes] {
        layOut(bytes, fields.map { Field($0.0, $0.1, $0.2) })
    }

    /// As many of the fields as the bytes hold, from their start.
    static func layOut(_ bytes: [UInt8], _ fields: [Field]) -> [NamedBytes] {
        var pieces: [NamedBytes] = []
        var start = 0
        for field in fields where field.length > 0 {
            guard field.length <= bytes.count - start else { break }
            let range = start..<(start + field.length)
            pieces.append(
                NamedBytes(
                    range: range, name: field.name, meaning: meaning(bytes[range], field.form)))
            start = range.upperBound
        }
        return pieces
    }

    private static func meaning(_ bytes: ArraySlice<UInt8>, _ form: Form) -> String {
        let number = bytes.reversed().prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        switch form {
        case .number: return String(number)
        case .bytes: return bytes.allSatisfy { $0 == 0 } ? "zeros" : ""
        case .text:
            let isText = bytes.allSatisfy { (0x20..<0x7f).contains($0) || $0 == 0 }
            return isText ? String(decoding: bytes.filter { $0 != 0 }, as: UTF8.self) : ""
        case .digest:
            guard bytes.count == 16 else { return "" }
            let high = bytes.suffix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let low = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            return Digest128(low: low, high: high).description
        case .type:
            return BlockType(rawValue: UInt8(truncatingIfNeeded: number)).map { "\($0)" }
                ?? "unknown type \(number)"
        case .codec:
            return BlockCodec(rawValue: UInt8(truncatingIfNeeded: number)).map { "\($0)" }
                ?? "unknown codec \(number)"
        }
    }
}
