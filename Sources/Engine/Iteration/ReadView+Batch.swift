// Reads of several keys at one moment, which wait for memory together. In rounds, each of which
// touches what the one before had fetched, so that the memory that a round asks for comes at once
// for all keys: what the filters say, then where the blocks lie, then the blocks. The last round is
// the read itself, which need not ask again what the rounds found out.
//
// Of the sorted levels: memtables and level 0 have no one place to fetch.

extension ReadView {
    /// How many keys are fetched ahead: enough to keep the memory busy, few enough for what was
    /// fetched to stay in the first-level cache.
    private static let fetchedKeys = 16

    /// The values of `keys` that a reader at `sequence` sees, in their order.
    package func multiGet(
        _ keys: [[UInt8]], at sequence: SequenceNumber, now: ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> [LiveValue?] {
        var values: [LiveValue?] = []
        values.reserveCapacity(keys.count)
        try forEach(keys, at: sequence, io: io) { (key, version) throws(EngineError) in
            values.append(
                try version.flatMap { (version) throws(EngineError) in
                    try liveValue(key, version, at: sequence, now: now, io: io)
                })
        }
        return values
    }

    /// As `multiGet`, without copies of values that lie in one piece: calls `body` with each, which
    /// is borrowed until then, or with nil.
    func withValues(
        of keys: [[UInt8]], at sequence: SequenceNumber, now: @autoclosure () -> ClockMilliseconds,
        io: ReadIO, _ body: (UnsafeRawBufferPointer?) -> Void
    ) throws(EngineError) {
        try forEach(keys, at: sequence, io: io) { (key, version) throws(EngineError) in
            guard let version else { return body(nil) }
            if version.trailer.kind == .put { return body(version.value) }
            let live = try liveValue(key, version, at: sequence, now: now(), io: io)
            guard let live else { return body(nil) }
            live.value.withUnsafeBytes { body($0) }
        }
    }

    /// Calls `body` for each key with what a reader at `sequence` sees of it.
    @inline(__always)
    private func forEach(
        _ keys: [[UInt8]], at sequence: SequenceNumber, io: ReadIO,
        _ body: (UnsafeRawBufferPointer, BorrowedVersion?) throws(EngineError) -> Void
    ) throws(EngineError) {
        var start = 0
        var places = FetchedPlaces()
        defer { places.removeAll() }
        while start < keys.count {
            let end = min(start + ReadView.fetchedKeys, keys.count)
            places.removeAll()
            fetch(keys[start..<end], at: sequence, &places)
            var next = 0
            for index in start..<end {
                try withKey(keys[index]) { (key) throws(EngineError) in
                    var search = PointSearch(
                        KeyProbe(
                            key: key, hash: places.hashes[index - start], sequence: sequence,
                            io: io))
                    defer { search.end() }
                    try visitUnsorted(key, &search)
                    while next < places.all.count, places.all[next].key == index {
                        let place = places.all[next]
                        next += 1
                        if search.isDecided { continue }
                        if let use = place.use {
                            try search.visit(place.table, use.reader, at: place.block)
                        } else {
                            try search.visit(place.table)
                        }
                    }
                    try body(key, search.visible)
                }
            }
            start = end
        }
    }

    private func fetch(
        _ keys: ArraySlice<[UInt8]>, at sequence: SequenceNumber, _ places: inout FetchedPlaces
    ) {
        for index in keys.indices {
            keys[index].withUnsafeBytes { key in
                let hash = Checksum.hash64(key)
                places.hashes.append(hash)
                let prefix = keyPrefix(key)
                for level in version.sorted {
                    guard let table = level.find(key, prefix) else { continue }
                    let use = table._withUnsafeGuaranteedRef { $0.useOpenReader() }
                    use?.reader._withUnsafeGuaranteedRef { $0.prefetchFilter(hash) }
                    places.all.append(FetchedPlace(key: index, table: table, use: use))
                }
            }
        }
        let hashes = places.hashes
        places.all.withUnsafeMutableBufferPointer { all in
            for place in all.indices {
                guard let use = all[place].use else { continue }
                let index = all[place].key
                let hash = hashes[index - keys.startIndex]
                all[place].block = keys[index].withUnsafeBytes { key in
                    use.reader._withUnsafeGuaranteedRef {
                        $0.prefetchSlot(key, hash: hash, at: sequence)
                    }
                }
            }
            for place in all {
                guard let use = place.use, case .block(let ordinal) = place.block else { continue }
                use.reader._withUnsafeGuaranteedRef { $0.prefetchBlock(ordinal) }
            }
        }
    }
}

/// A table that may hold a key of a batch. The view keeps the table.
private struct FetchedPlace {
    let key: Int
    let table: Unmanaged<TableHandle>
    /// Nil if it is not open.
    let use: ReaderUse?
    /// Where in it.
    var block = BlockPlace.unknown
}

/// Of some keys of a batch, and in their order. To be emptied in the end: that ends the uses of
/// what it names.
private struct FetchedPlaces: ~Copyable {
    var hashes: [UInt64] = []
    /// By key, and of each key from the top level down.
    var all: [FetchedPlace] = []

    mutating func removeAll() {
        for place in all { place.use?.end() }
        all.removeAll(keepingCapacity: true)
        hashes.removeAll(keepingCapacity: true)
    }
}
