// A table file opened for people: its summary, its entries, what is wrong with it.
import Engine

package final class TableInspection {
    let reader: TableReader
    let record: TableRecord

    /// Throws what makes the file unreadable as a whole; damage in single blocks does not.
    package convenience init(_ path: String, keys: KeyRing = .plain) throws {
        let file: any File
        do throws(FileError) {
            file = try POSIXFileSystem().open(path, .read)
        } catch {
            throw NodeFailure(classifying: error)
        }
        try self.init(file, keys: keys)
    }

    package init(_ file: any File, keys: KeyRing = .plain) throws {
        do throws(EngineError) {
            record = try TableReader.describe(file, keys: keys)
            reader = try TableReader.open(
                file: file, record: record, cache: BlockCache(capacity: 16 << 20), keys: keys)
        } catch {
            switch error {
            case .wrongKey, .identity: throw NodeFailure(classifying: error)
            default: throw NodeFailure(.damage, error.description)
            }
        }
    }

    package var blockCount: Int { reader.blockCount }
    package var digest: Digest128 { record.digest }

    package var summary: String {
        var lines = [
            "table \(record.id)", "digest \(record.digest)",
            "file \(reader.fileBytes) bytes, canonical \(record.canonicalBytes) bytes, "
                + "\(reader.blockCount) blocks",
            "entries \(record.entryCount), of them deletes \(record.deleteCount), "
                + "range tombstones \(record.rangeTombstoneCount)",
            "sequences \(record.smallestSequence) to \(record.largestSequence)",
        ]
        if let header = reader.localHeader {
            let dictionary =
                reader.dictionaryBytes > 0 ? ", dictionary \(reader.dictionaryBytes) bytes" : ""
            let key = header.keyEpoch > 0 ? ", key epoch \(header.keyEpoch)" : ""
            lines.insert(
                "generation \(header.generation), codec \(header.codec)\(dictionary)\(key)", at: 1)
        }
        if let points = record.points {
            lines.append(
                "keys \(InspectionText.quote(points.smallest)) to"
                    + " \(InspectionText.quote(points.largest))")
        }
        let end = record.span.end.map { InspectionText.quote($0) } ?? "the last key"
        lines.append("speaks of \(InspectionText.quote(record.span.start)) up to \(end)")
        lines += reader.localDamage.map { "damaged: \($0)" }
        return lines.joined(separator: "\n")
    }

    /// A line for each range tombstone and each version, in the table's order.
    package func forEachEntry(limit: Int, _ body: (String) -> Void) throws {
        do throws(EngineError) {
            for tombstone in try reader.rangeTombstones(io: .blocking).tombstones {
                let end = tombstone.span.end.map { InspectionText.quote($0) } ?? "the last key"
                body(
                    "\(tombstone.sequence) delete range"
                        + " \(InspectionText.quote(tombstone.span.start)) up to \(end)")
            }
            let cursor = reader.makeCursor(io: .blocking)
            try cursor.seekToFirst()
            var left = limit
            while left > 0, cursor.isValid {
                body(TableInspection.line(cursor))
                try cursor.next()
                left -= 1
            }
        } catch {
            throw NodeFailure(.damage, error.description)
        }
    }

    /// A line for each damaged part; empty if there is none.
    package func verify(fromMedium: Bool) -> [String] {
        let found = reader.verify(fromMedium: fromMedium)
        return found.texts.map { "damaged: " + $0 }
    }

    private static func line(_ cursor: TableCursor) -> String {
        let sequence = cursor.trailer.sequence
        let key = InspectionText.quote(cursor.key)
        switch cursor.trailer.kind {
        case .put: return "\(sequence) put \(key) = \(InspectionText.quote(cursor.value))"
        case .delete: return "\(sequence) delete \(key)"
        case .singleDelete: return "\(sequence) single delete \(key)"
        case .merge:
            guard let operand = MergeOperand(stored: cursor.value) else {
                return "\(sequence) merge \(key) without an operator"
            }
            return "\(sequence) merge \(key) by \(operand.id):"
                + " \(InspectionText.quote(operand.bytes))"
        case .expiringPut:
            let expiry = cursor.value.prefix(8).enumerated().reduce(UInt64(0)) { sum, byte in
                sum | UInt64(byte.element) << UInt64(8 * byte.offset)
            }
            let value = InspectionText.quote(cursor.value.dropFirst(8))
            return "\(sequence) put \(key) until \(expiry) = \(value)"
        case .blobReference:
            let reference: BlobReference
            do { reference = try BlobReference(decoding: cursor.value) } catch {
                return "\(sequence) put \(key) with \(error)"
            }
            let until = reference.expiry.map { " until \($0)" } ?? ""
            return "\(sequence) put \(key)\(until) = \(reference.valueBytes) bytes in blob file"
                + " \(reference.file), block \(reference.block.rawValue),"
                + " entry \(reference.place)"
        case nil: return "\(sequence) unknown kind \(key)"
        }
    }
}
