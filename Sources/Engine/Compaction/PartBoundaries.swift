// Where a large job is split into parts: at user keys where tables of its sorted levels begin, so
// that each part has about as many bytes. Pure: it knows the inputs' spans and sizes, not what is
// in them. How well it guesses is a matter of speed alone; boundaries are in the job's entry.

extension Picker {
    /// A part is worth its own outputs, the last of which is small, from so many tables on.
    private static let partTables: UInt64 = 2

    /// `spec` in parts, if it is large enough; else as it is.
    func divided(_ spec: CompactionSpec) -> CompactionSpec {
        // In level 0 each table is one more place to read, and ages are compared.
        guard spec.action == .merge, spec.witnesses.isEmpty, spec.outputLevel > 0 else {
            return spec
        }
        let inputs = spec.inputs.compactMap { manifest.tables.record($0.id) }
        let bytes = inputs.reduce(UInt64(0)) { $0 &+ $1.canonicalBytes }
        let parts = min(
            bytes / Picker.partTables / spec.targetBytes,
            UInt64(min(options.partsMax, Limits.jobParts)))
        guard parts > 1 else { return spec }
        var spec = spec
        spec.boundaries = Picker.boundaries(between: inputs, parts: Int(parts))
        return spec
    }

    /// Fewer where tables do not tell enough.
    private static func boundaries(between inputs: [TableRecord], parts: Int) -> [[UInt8]] {
        guard let hull = CompactionSpec.hull(of: inputs) else { return [] }
        var places = inputs.filter { $0.level > 0 && $0.span.start.count <= Limits.keyBytes }
            .map(\.span.start).filter { hull.start.isKeyBefore($0) }
        places.sort { $0.isKeyBefore($1) }
        places = places.indices.filter { $0 == 0 || places[$0] != places[$0 - 1] }
            .map { places[$0] }
        let bytes = bytesBefore(places, inputs)
        guard let total = bytes.last else { return [] }
        let share = max(1, total / UInt64(parts))
        var boundaries: [[UInt8]] = []
        var last: UInt64 = 0
        for (place, before) in zip(places, bytes) {
            guard before - last >= share, total - before >= share / 2 else { continue }
            boundaries.append(place)
            last = before
        }
        return boundaries
    }

    /// Bytes of the inputs before each place, and behind all of them. A table's are spread evenly
    /// over what lies between the places that it reaches over.
    private static func bytesBefore(_ places: [[UInt8]], _ inputs: [TableRecord]) -> [UInt64] {
        var added = [UInt64](repeating: 0, count: places.count + 2)
        for input in inputs {
            let first = places.partitionPoint { !input.span.start.isKeyBefore($0) }
            let last =
                input.span.end.map { end in
                    places.partitionPoint { $0.isKeyBefore(end) }
                } ?? places.count
            let each = input.canonicalBytes / UInt64(last - first + 1)
            added[first] &+= each
            added[last + 1] &-= each
        }
        var here: UInt64 = 0
        var total: UInt64 = 0
        return added.dropLast().map { change in
            here &+= change
            total &+= here
            return total
        }
    }
}
