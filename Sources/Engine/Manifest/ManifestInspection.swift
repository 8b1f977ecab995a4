// A manifest read by itself, for `martlet manifest dump`: one copy, or both copies that CURRENT
// names, whoever's they are. Nothing is repaired and nothing refused: as far as the chain of
// records holds it is folded, and what does not hold is noted. Recovery (`ManifestFile`) judges
// more strictly.

package struct ManifestInspection: Sendable {
    package struct Record: Sendable {
        package var ordinal: UInt64
        package var isSnapshot: Bool
        /// In the file, header included.
        package var range: Range<Int>
        /// None in a snapshot.
        package var edits: [ManifestEdit] = []
    }

    /// The n of MANIFEST-n.
    package let number: UInt64
    package let identity: ManifestIdentity
    package private(set) var records: [Record] = []
    /// What the records fold to; nil if not even the snapshot decodes.
    package private(set) var state: ManifestState?
    /// What is wrong, and what a power cut tore.
    package private(set) var notes: [ManifestNote] = []

    package var isDamaged: Bool { notes.contains(where: \.isDamage) }

    /// `path` is a manifest file, a group's directory, or the data directory of a node with one
    /// group. `.corrupt` if no copy has an intact header.
    package static func inspect(
        _ fileSystem: any FileSystem, _ path: String, keys: KeyRing = .plain
    ) throws(EngineError) -> ManifestInspection {
        guard (try? fileSystem.list(path)) != nil else {
            try checkHeader(fileSystem, path)
            let bytes = try engineError { () throws(FileError) in
                try fileSystem.readAll(path, limit: ManifestDirectory.fileBytesMax)
            }
            return try ManifestInspection([Copy(name: path, bytes: bytes)], number: nil, path, keys)
        }
        var directory = path
        var files = try ManifestDirectory.read(fileSystem, path)
        if files.names.isEmpty, fileSystem.exists(path + "/group-0") {
            directory += "/group-0"
            files = try ManifestDirectory.read(fileSystem, directory)
        }
        return try inspect(files, keys)
    }

    /// Before all of a file that may be anything is read.
    private static func checkHeader(
        _ fileSystem: any FileSystem, _ path: String
    ) throws(EngineError) {
        let bytes = try engineError { () throws(FileError) in
            try fileSystem.open(path, .read)
                .readBytes(at: 0, count: ManifestHeader.encryptedSize)
        }
        guard bytes.withUnsafeBytes({ ManifestHeader.find(in: $0) }) == .damaged else { return }
        throw ManifestInspection.headerless(path)
    }

    private static func headerless(_ path: String) -> EngineError {
        .corrupt(file: path, offset: 0, reason: "no copy of a manifest has an intact header")
    }

    private static func inspect(_ files: ManifestDirectory, _ keys: KeyRing) throws(EngineError)
        -> ManifestInspection
    {
        var number = files.highestNumber
        var note: ManifestNote?
        switch try files.readCurrent() {
        case .names(let named): number = named
        case .missing:
            note = ManifestNote(
                file: ManifestDirectory.current, damage: FileDamage("it is missing"))
        case .damaged:
            note = ManifestNote(
                file: ManifestDirectory.current, damage: FileDamage(at: 0, "it names no manifest"))
        }
        guard number > 0 else {
            throw .corrupt(file: files.directory, reason: "no manifest is in it")
        }
        var copies: [Copy] = []
        for name in ManifestDirectory.names(number) {
            copies.append(Copy(name: name, bytes: try files.readOrNil(name)))
        }
        var result = try ManifestInspection(copies, number: number, files.directory, keys)
        if var note {
            note.outcome = "shown is pair \(number)"
            result.notes.insert(note, at: 0)
        }
        return result
    }

    private struct Copy {
        var name: String
        /// Nil if it is missing or unreadable.
        var bytes: [UInt8]?
    }

    private init(_ copies: [Copy], number wanted: UInt64?, _ path: String, _ keys: KeyRing)
        throws(EngineError)
    {
        var found: ManifestHeader?
        for copy in copies where found == nil {
            switch copy.bytes?.withUnsafeBytes({ ManifestHeader.find(in: $0) }) {
            case .valid(let header, _)? where wanted ?? header.number == header.number:
                found = header
            case .unsupported(let version)?:
                throw .identity(
                    reason: "\(copy.name): manifest version \(version) is not supported by this"
                        + " build")
            case .valid?, .damaged?, nil: break
            }
        }
        guard let header = found else { throw ManifestInspection.headerless(path) }
        number = header.number
        identity = header.identity
        walk(copies, header, try keys.cipher(header.key, .manifest, path: path))
    }

    /// Follows the chain, each record from whichever copy has it intact.
    private mutating func walk(
        _ copies: [Copy], _ header: ManifestHeader, _ cipher: FileCipher?
    ) {
        let head = header.encoded()
        var image = head.bytes
        var previous = head.checksum
        var last: ManifestRecord?
        var isFolding = true
        while let (record, copy) = ManifestChain.next(
            copies.map(\.bytes), at: image.count, previous: previous, after: last, cipher)
        {
            image.append(contentsOf: copy[record.range])
            previous = record.checksum
            last = record
            records.append(
                Record(
                    ordinal: record.ordinal, isSnapshot: record.kind == .snapshot,
                    range: record.range))
            if isFolding { isFolding = fold(record, copy, cipher, copies[0].name) }
        }
        for copy in copies { note(copy, image, after: last?.ordinal) }
    }

    /// Folds the last record in; false, with a note, if it does not decode or contradicts.
    private mutating func fold(
        _ record: ManifestRecord, _ bytes: [UInt8], _ cipher: FileCipher?, _ name: String
    ) -> Bool {
        let place = records.count - 1
        do throws(DecodingError) {
            let payload = try ManifestChain.payload(record, in: bytes, cipher)
            if records[place].isSnapshot {
                state = try ManifestState(decoding: payload)
            } else {
                let edits = try payload.withBytes { (raw) throws(DecodingError) in
                    try ManifestEdit.decoded(raw)
                }
                records[place].edits = edits
                var next = state
                try next?.apply(edits)
                state = next
            }
            return true
        } catch {
            notes.append(
                ManifestNote(
                    file: name,
                    damage: FileDamage(
                        at: UInt64(records[place].range.lowerBound),
                        "record \(records[place].ordinal): \(error)")))
            return false
        }
    }

    /// How a copy differs from the chain that all copies hold together.
    private mutating func note(_ copy: Copy, _ image: [UInt8], after last: UInt64?) {
        guard let bytes = copy.bytes else {
            return add(copy, FileDamage("it is missing or unreadable"))
        }
        let common = zip(bytes, image).prefix { $0 == $1 }.count
        if common < image.count {
            add(
                copy,
                FileDamage(
                    at: UInt64(common),
                    common == bytes.count
                        ? "it ends before the other copy does" : "it is not what was written"))
        }
        let end = UInt64(image.count)
        guard bytes.count > image.count else {
            if last == nil, common == image.count {
                add(copy, FileDamage(at: end, "it has no intact snapshot"))
            }
            return
        }
        let goesOn = bytes.withUnsafeBytes {
            ManifestRecord.exists(above: last ?? 0, in: $0, from: image.count)
        }
        if goesOn {
            add(
                copy,
                FileDamage(
                    at: end,
                    "a record is damaged, and intact ones stand behind it: a node asks a peer for"
                        + " the manifest"))
        } else if last == nil {
            add(copy, FileDamage(at: end, "it has no intact snapshot"))
        } else if common == image.count {
            notes.append(
                ManifestNote(
                    file: copy.name,
                    damage: FileDamage(
                        at: end,
                        "\(bytes.count - image.count) bytes of an append that never became durable"
                    ),
                    isDamage: false))
        }
    }

    private mutating func add(_ copy: Copy, _ damage: FileDamage) {
        notes.append(ManifestNote(file: copy.name, damage: damage))
    }
}
