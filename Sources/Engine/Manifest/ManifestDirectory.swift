// Finds the manifest among the files of its directory: what CURRENT names, or, when CURRENT is
// lost, the pair that goes furthest. Reads only; `ManifestFile` writes.
//
// CURRENT is replaced after its pair is durable, so a pair that CURRENT names and that does not
// read is damage, and an older pair is never taken for it. Without a readable CURRENT every pair
// must read before one is chosen: a damaged one might be the newer.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct ManifestDirectory {
    let fileSystem: any FileSystem
    let directory: String
    /// Names of manifest files, sorted.
    let names: [String]
    let numbers: [UInt64]

    static let current = "CURRENT"
    private static let prefix = "MANIFEST-"
    private static let mirrorSuffix = ".mirror"
    /// Far above any manifest; rewriting keeps the file within a few times its snapshot.
    static let fileBytesMax: UInt64 = 4 << 30

    var highestNumber: UInt64 { numbers.max() ?? 0 }

    static func name(_ number: UInt64) -> String { prefix + String(number) }
    static func names(_ number: UInt64) -> [String] {
        [name(number), name(number) + mirrorSuffix]
    }
    static func paths(_ directory: String, _ number: UInt64) -> [String] {
        names(number).map { directory + "/" + $0 }
    }

    static func read(_ fileSystem: any FileSystem, _ directory: String) throws(EngineError)
        -> ManifestDirectory
    {
        do throws(FileError) {
            let names = try fileSystem.list(directory).filter { number(of: $0) != nil }
            return ManifestDirectory(
                fileSystem: fileSystem, directory: directory, names: names,
                numbers: Set(names.compactMap { number(of: $0) }).sorted())
        } catch { throw .file(error) }
    }

    /// The n of a manifest file's name; nil for other files. Far from where adding would overflow.
    private static func number(of name: String) -> UInt64? {
        guard name.hasPrefix(prefix) else { return nil }
        var digits = name.dropFirst(prefix.count)
        if digits.hasSuffix(mirrorSuffix) { digits = digits.dropLast(mirrorSuffix.count) }
        guard let number = UInt64(digits), number > 0, number < 1 << 62,
            String(number) == digits
        else { return nil }
        return number
    }

    // MARK: - CURRENT

    private static let currentMagic: UInt32 = 0x5255_434d  // "MCUR"
    private static let currentVersion: UInt16 = 1

    static func currentBytes(naming number: UInt64) -> [UInt8] {
        var writer = ByteWriter(capacity: 32)
        writer.write(currentMagic)
        writer.write(currentVersion)
        writer.write(UInt16(0))
        writer.write(number)
        writer.write(Digest128(of: writer.bytes))
        return writer.bytes
    }

    enum Current {
        case names(UInt64)
        case missing
        case damaged
    }

    func readCurrent() throws(EngineError) -> Current {
        guard let bytes = try readOrNil(ManifestDirectory.current) else {
            return fileSystem.exists(directory + "/" + ManifestDirectory.current)
                ? .damaged : .missing
        }
        let number = bytes.withUnsafeBytes { buffer -> UInt64? in
            guard buffer.count == 32 else { return nil }
            return UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        guard let number, number > 0, number < 1 << 62,
            bytes == ManifestDirectory.currentBytes(naming: number)
        else { return .damaged }
        return .names(number)
    }

    /// The file, or nil if it is missing or the medium does not give it back.
    func readOrNil(_ name: String) throws(EngineError) -> [UInt8]? {
        do throws(FileError) {
            return try fileSystem.readAll(
                directory + "/" + name, limit: ManifestDirectory.fileBytesMax)
        } catch {
            if error.isNotFound || error.isMediumError { return nil }
            throw .file(error)
        }
    }

    // MARK: - Choosing

    struct Found {
        var number: UInt64
        var chain: ManifestChain
        var isNamedByCurrent: Bool
        var notes: [ManifestNote]

        /// For an open that mends nothing: throws if a copy or CURRENT is not as it should be.
        func refuseFlaws() throws(EngineError) {
            if let note = notes.first {
                throw .corrupt(
                    file: note.file, offset: note.damage.offset,
                    reason: note.damage.reason + StrictCheck.remedy)
            }
            guard isNamedByCurrent else {
                throw .corrupt(
                    file: ManifestDirectory.current, reason: "it is missing" + StrictCheck.remedy)
            }
        }
    }

    /// The manifest to recover; nil if none was ever completed.
    func choose(_ identity: ManifestIdentity, _ keys: KeyRing) throws(EngineError) -> Found? {
        switch try readCurrent() {
        case .names(let number): return try load(number, identity, keys, isNamedByCurrent: true)
        case .missing:
            // Before the first CURRENT there can be only the first pair, which nobody relied on.
            guard highestNumber <= 1 else {
                return try furthest(identity, keys, FileDamage("it is missing"))
            }
            do throws(EngineError) {
                return try load(1, identity, keys, isNamedByCurrent: false)
            } catch {
                if case .corrupt = error { return nil }
                throw error
            }
        case .damaged:
            return try furthest(identity, keys, FileDamage(at: 0, "it names no manifest"))
        }
    }

    private func furthest(
        _ identity: ManifestIdentity, _ keys: KeyRing, _ damage: FileDamage
    ) throws(EngineError) -> Found {
        var best: Found?
        for number in numbers {
            // A damaged pair may be the newest: going on with an older one would go back in time.
            let found = try load(number, identity, keys, isNamedByCurrent: false)
            let reach = found.chain.records.last?.ordinal ?? 0
            if reach >= best?.chain.records.last?.ordinal ?? 0 { best = found }
        }
        guard var best else {
            // No pair is to blame; see `isLostManifest`.
            throw .corrupt(
                file: "MANIFEST",
                reason: "every pair is missing, and so is what would name one: "
                    + damage.of(ManifestDirectory.current))
        }
        best.notes.insert(
            ManifestNote(
                file: ManifestDirectory.current, damage: damage, outcome: "it is written anew"),
            at: 0)
        return best
    }

    private func load(
        _ number: UInt64, _ identity: ManifestIdentity, _ keys: KeyRing, isNamedByCurrent: Bool
    ) throws(EngineError) -> Found {
        let names = ManifestDirectory.names(number)
        var copies: [[UInt8]?] = []
        for name in names { copies.append(try readOrNil(name)) }
        let header: ManifestHeader
        do throws(ManifestChain.Failure) {
            header = try ManifestChain.findHeader(copies, number: number, identity: identity)
        } catch { throw error.of(names[0]) }
        let cipher: FileCipher? = try keys.cipher(
            header.key, .manifest, path: directory + "/" + names[0])
        do throws(ManifestChain.Failure) {
            let chain = try ManifestChain(copies, header, cipher)
            return Found(
                number: number, chain: chain, isNamedByCurrent: isNamedByCurrent,
                notes: notes(names, copies, chain))
        } catch { throw error.of(names[0]) }
    }

    private func notes(_ names: [String], _ copies: [[UInt8]?], _ chain: ManifestChain)
        -> [ManifestNote]
    {
        var notes: [ManifestNote] = []
        func add(
            _ name: String, _ damage: FileDamage, _ outcome: String = "it is replaced",
            isDamage: Bool = true
        ) {
            notes.append(
                ManifestNote(file: name, damage: damage, outcome: outcome, isDamage: isDamage))
        }
        for (name, (copy, isIntact)) in zip(names, zip(copies, chain.isIntact)) where !isIntact {
            guard let copy else {
                add(name, FileDamage("it is missing or unreadable"))
                continue
            }
            let common = zip(copy, chain.bytes).prefix { $0 == $1 }.count
            let place = UInt64(common)
            if common == chain.bytes.count {
                add(
                    name, FileDamage(at: place, "an append there never became durable"),
                    "it is cut", isDamage: false)
            } else if common == copy.count {
                add(name, FileDamage(at: place, "it lacks the end that the other copy has"))
            } else if chain.isTampered(copy, at: common) {
                add(
                    name,
                    FileDamage(
                        at: place,
                        "it holds its checksums and is not authentic: it was tampered with"))
            } else {
                add(name, FileDamage(at: place, "it is not what was written"))
            }
        }
        return notes
    }
}

/// What an open found of a manifest's files and put right.
package struct ManifestNote: Hashable, Sendable {
    /// In the group's directory.
    package var file: String
    package var damage: FileDamage
    /// What became of it; nil if nothing was done.
    package var outcome: String?
    /// False for an append that a power cut tore.
    package var isDamage = true

    package var text: String {
        damage.of(file) + (outcome.map { "; " + $0 } ?? "")
    }
}

extension ManifestChain.Failure {
    fileprivate func of(_ file: String) -> EngineError {
        switch self {
        case .damaged(let damage):
            .corrupt(file: file, offset: damage.offset, reason: damage.reason)
        case .foreign(let reason): .identity(reason: reason)
        }
    }
}

extension FileError {
    /// The medium did not give back what it holds: a case for the mirror.
    fileprivate var isMediumError: Bool { code == EIO || code == EILSEQ || code == EBADMSG }
}

extension EngineError {
    /// The manifest is lost, whole or in part: a peer's can take its place.
    package var isLostManifest: Bool {
        guard case .corrupt(let file, _, _) = self else { return false }
        return file.hasPrefix("MANIFEST")
    }
}
