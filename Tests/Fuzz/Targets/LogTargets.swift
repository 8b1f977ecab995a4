// What the log and the files beside it hold.

import Engine

extension FuzzTarget {
    static let logTargets: [FuzzTarget] = [
        FuzzTarget("entry") { bytes in
            guard let entry = try? Entry(decoding: [UInt8](bytes)) else { return }
            try? EntryValidation.validate(entry)
        },
        // The kind, then a payload, in an entry with the right checksum.
        FuzzTarget("entry-payload") { bytes in
            guard let kind = bytes.first.flatMap({ EntryKind(rawValue: $0) }),
                bytes.count <= Limits.entryPayloadBytes
            else { return }
            let entry = Entry(
                kind: kind, payload: [UInt8](bytes.dropFirst()), previous: .zero, group: 0,
                term: Term(3), index: LogIndex(900), firstSequence: SequenceNumber(4_000),
                clock: 1_000_000, commit: LogIndex(890))
            try? EntryValidation.validate(entry)
        },
        // A payload of `bulk`: what decodes is encoded alike, and found in a memtable.
        FuzzTarget("bulk") { bytes in
            guard let pairs = try? bulkPairs(bytes), !pairs.isEmpty else { return }
            var builder = BulkPayloadBuilder()
            for (key, value) in pairs {
                let added: Void? = try? key.withUnsafeBytes { key in
                    try value.withUnsafeBytes { try builder.add(key, $0) }
                }
                precondition(added != nil, "the builder refuses what decodes")
            }
            let again = try? builder.take().payload.withUnsafeBytes(bulkPairs)
            precondition(
                again?.elementsEqual(pairs, by: ==) == true,
                "a bulk does not read back what it wrote")
            let memtable = Memtable()
            memtable.insertRun(bytes, firstSequence: SequenceNumber(1))
            for (key, value) in pairs {
                let found = key.withUnsafeBytes { memtable.lookup($0, at: .max) }
                precondition(found?.value == value, "a memtable lost a pair of a bulk")
            }
        },
        .roundTrip("settings", { try LoggedSettings(decoding: $0) }, { $0.encoded() }),
        .roundTrip("membership", { try Membership(decoding: $0) }, { $0.encoded() }),
        FuzzTarget("segment") { bytes in
            let sealed = Sealed(bytes, checksumAt: 508).bytes
            let path = "/f/" + String(repeating: "0", count: 15) + "1.seg"
            guard
                let files = try? sealed.withUnsafeBytes({ try memoryFile($0, named: path) }),
                let file = try? files.open(path, .read)
            else { return }
            _ = try? SegmentInspection.inspect(file) { _ in true }
            _ = SegmentFooter.readSummary(file)
            _ = SegmentFooter.readOffsets(file)
        },
        FuzzTarget("segment-header") { bytes in
            let sealed = Sealed(bytes, checksumAt: 508).bytes
            guard let header = try? sealed.withUnsafeBytes({ try SegmentHeader(decoding: $0) })
            else { return }
            let again = try? header.encoded().withUnsafeBytes { try SegmentHeader(decoding: $0) }
            precondition(again == header, "a segment header does not read back what it wrote")
        },
        .roundTrip("segment-summary", { try SegmentSummary(decoding: $0) }, { $0.encoded() }),
        FuzzTarget("offset-table") { bytes in
            _ = try? OffsetTable.decode(bytes, below: 1 << 30)
        },
        FuzzTarget("hard-state") { bytes in
            let sector = Sealed(bytes, checksumAt: max(bytes.count - 4, 0)).bytes
            _ = try? HardStateFormat.decodeCopy(sector)
            _ = try? HardStateFormat.decodePage(sector)
        },
        FuzzTarget("identity") { bytes in _ = try? NodeIdentity(decoding: [UInt8](bytes)) },
    ]
}

private func bulkPairs(_ payload: UnsafeRawBufferPointer) throws(DecodingError)
    -> [(key: [UInt8], value: [UInt8])]
{
    var pairs: [(key: [UInt8], value: [UInt8])] = []
    var reader = try BulkPayloadReader(payload)
    while let (key, value) = try reader.next() { pairs.append(([UInt8](key), [UInt8](value))) }
    return pairs
}
