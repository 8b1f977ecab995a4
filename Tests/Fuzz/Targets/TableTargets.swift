// Table files, whole and block by block: canonical blocks are given as they are after their digest
// was checked, since a fuzzer does not get past a digest.

import Engine

extension FuzzTarget {
    static let tableTargets: [FuzzTarget] = [
        FuzzTarget("data-block") { bytes in
            guard let base = bytes.baseAddress, (try? DataBlockFormat.validate(bytes)) != nil
            else { return }
            var sum = 0
            DataBlock(base).forEachEntry { key, entry in
                sum &+= key.reduce(0) { $0 &+ Int($1) } &+ entry.value.count
            }
        },
        // How many entries the leaf list promises, then the block.
        FuzzTarget("index-block") { bytes in
            guard let count = bytes.first else { return }
            let block = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
            _ = try? DecodedIndex(decoding: block, count: Int(count))
        },
        // How many partitions and data blocks it promises, then the upper of two levels.
        FuzzTarget("index-levels") { bytes in
            guard bytes.count >= 2 else { return }
            let block = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(2))
            _ = try? DecodedIndex(decoding: block, count: Int(bytes[0]), over: Int(bytes[1]))
        },
        // How many data blocks the leaf list promises, then the block.
        FuzzTarget("block-bounds") { bytes in
            guard let count = bytes.first else { return }
            let block = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
            guard let bounds = try? BlockBounds(decoding: block, count: Int(count)) else { return }
            var sum: UInt64 = 0
            for ordinal in 0..<Int(count) { sum &+= bounds[ordinal].upperBound.rawValue }
        },
        .roundTrip(
            "blob-reference", { try BlobReference(decoding: $0) },
            { reference in
                var writer = ByteWriter()
                reference.encode(into: &writer)
                return writer.bytes
            }),
        FuzzTarget("leaf-list") { bytes in _ = try? LeafList(decoding: [UInt8](bytes)) },
        FuzzTarget("range-tombstones") { bytes in _ = try? RangeTombstoneBlock.decode(bytes) },
        FuzzTarget("properties") { bytes in _ = try? TableProperties(decoding: bytes) },
        FuzzTarget("filter") { bytes in
            guard let filter = try? ResidentFilter(decoding: bytes) else { return }
            ask { _ = filter.mayContain($0) }
        },
        FuzzTarget("prefix-filter") { bytes in
            guard let filter = try? PrefixFilter(decoding: bytes) else { return }
            for length in 0..<40 {
                [UInt8](repeating: 0x2f, count: length).withUnsafeBytes {
                    _ = filter.mayContain(keysFrom: $0)
                }
            }
        },
        // Codec, canonical length, then what is stored.
        FuzzTarget("codec") { bytes in
            guard bytes.count >= 3, let codec = BlockCodec(rawValue: bytes[0]) else { return }
            let length = Int(bytes[1]) | Int(bytes[2]) << 8
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
            defer { target.deallocate() }
            let stored = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(3))
            _ = codec.decode(stored, into: target, dictionary: nil)
        },
        // Length of the dictionary, the dictionary, then a frame.
        FuzzTarget("dictionary") { bytes in
            guard bytes.count >= 2 else { return }
            let length = min(Int(bytes[0]) | Int(bytes[1]) << 8, bytes.count - 2)
            let dictionary = UnsafeRawBufferPointer(rebasing: bytes[2..<2 + length])
            guard let dictionary = BlockDictionary(dictionary) else { return }
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
            defer { target.deallocate() }
            let frame = UnsafeRawBufferPointer(rebasing: bytes[(2 + length)...])
            _ = BlockCodec.zstdDictionary.decode(frame, into: target, dictionary: dictionary)
        },
        FuzzTarget("block-header") { bytes in
            let sealed = Sealed(bytes, checksumAt: 76).bytes
            sealed.withUnsafeBytes {
                _ = BlockHeader(decoding: $0)
                _ = try? TableFooter(decoding: $0)
            }
        },
        FuzzTarget("table") { bytes in
            let path = "/f/t.sst"
            guard let files = try? memoryFile(bytes, named: path),
                let file = try? files.open(path, .read)
            else { return }
            readAll(file)
            _ = try? TableSalvage.run(files, from: path, to: "/f/salvaged")
        },
    ]

    private static func readAll(_ file: any File) {
        guard let record = try? TableReader.describe(file),
            let reader = try? TableReader.open(
                file: file, record: record, cache: BlockCache(capacity: 1 << 20))
        else { return }
        _ = reader.verify(fromMedium: true)
        _ = try? reader.properties()
        _ = try? reader.rangeTombstones(io: .blocking)
        let cursor = reader.makeCursor(io: .blocking)
        try? cursor.seekToFirst()
        // A hostile index may lead in circles; a sound table of this size has fewer versions.
        for _ in 0..<100_000 where cursor.isValid {
            guard (try? cursor.next()) != nil else { return }
        }
    }

    private static func ask(_ body: (UInt64) -> Void) {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for _ in 0..<64 {
            body(hash)
            hash = hash &* 0xbf58_476d_1ce4_e5b9 ^ hash >> 29
        }
        for extreme in [UInt64(0), .max, 1 << 63] { body(extreme) }
    }
}
