// The keys of a node, and the ring that gives each file its own: a file's key is derived from the
// node key of its epoch and a random salt that stands in the file's header, so no two files share
// one, and a nonce need only be unique within its file. Off without keys.
//
// Keys are given at start and never change while the process runs; to rotate, start with a new
// current epoch and the old keys beside it. Nothing here prints a key.

/// A node key: 256 bits, from a file, a command or the embedding program.
public struct EncryptionKey: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
    public static let byteCount = 32
    let bytes: [UInt8]

    /// Throws `.invalid` unless there are exactly 32 bytes.
    public init(_ bytes: [UInt8]) throws(EngineError) {
        guard bytes.count == EncryptionKey.byteCount else {
            throw .invalid(
                reason: "an encryption key has \(EncryptionKey.byteCount) bytes, not \(bytes.count)"
            )
        }
        self.bytes = bytes
    }

    /// Keys end up in logs by accident.
    public var description: String { "an encryption key" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Node keys by epoch, and the epoch that new files are written in.
public struct EncryptionKeys: Sendable {
    /// 0: new files are plain.
    public let current: UInt32
    let keys: [UInt32: EncryptionKey]

    /// Throws `.invalid` unless there is a key for `current`, which may be 0 to write plain files
    /// beside encrypted ones that are still there. Epochs count from 1.
    public init(current: UInt32, keys: [UInt32: EncryptionKey]) throws(EngineError) {
        guard keys[0] == nil else {
            throw .invalid(reason: "key epochs count from 1; 0 stands for no encryption")
        }
        guard current == 0 || keys[current] != nil else {
            throw .invalid(reason: "there is no key for epoch \(current), which is the current one")
        }
        self.current = current
        self.keys = keys
    }
}

/// What a file says of its key: enough to derive it from the node key, and to tell a wrong node
/// key before a byte of the file is believed or called damaged.
package struct FileKeyHeader: Hashable, Sendable {
    package static let size = 52

    /// Of the node key; never 0.
    package var epoch: UInt32
    package var salt: Salt
    /// Derived together with the key: equal if the node key is the one that was used.
    package var check: Digest128

    package struct Salt: Hashable, Sendable {
        var words: (UInt64, UInt64, UInt64, UInt64)

        package init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
            words = (first, second, third, fourth)
        }

        package static func == (left: Salt, right: Salt) -> Bool { left.words == right.words }

        package func hash(into hasher: inout Hasher) {
            hasher.combine(words.0)
            hasher.combine(words.1)
            hasher.combine(words.2)
            hasher.combine(words.3)
        }
    }

    /// Epoch u32, salt 32 bytes, check 16 bytes.
    func encode(into writer: inout ByteWriter) {
        writer.write(epoch)
        encodeSalt(into: &writer)
        writer.write(check)
    }

    func encodeSalt(into writer: inout ByteWriter) {
        writer.write(salt.words.0)
        writer.write(salt.words.1)
        writer.write(salt.words.2)
        writer.write(salt.words.3)
    }

    init(epoch: UInt32, salt: Salt, check: Digest128) {
        self.epoch = epoch
        self.salt = salt
        self.check = check
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        let epoch = try reader.read(UInt32.self)
        self.init(epoch: epoch, salt: try Salt(&reader), check: try reader.readDigest())
        guard epoch > 0 else { throw DecodingError("an encrypted file without a key epoch") }
    }
}

extension FileKeyHeader.Salt {
    init(_ reader: inout ByteReader) throws(DecodingError) {
        self.init(
            try reader.read(UInt64.self), try reader.read(UInt64.self),
            try reader.read(UInt64.self), try reader.read(UInt64.self))
    }
}

/// Makes and finds the keys of files. Any thread.
package final class KeyRing: Sendable {
    /// What a file is for: part of its key's derivation.
    package enum Purpose: String, Sendable {
        case table
        case log
        case manifest
        case state
    }

    /// Without keys: new files are plain, encrypted ones cannot be read.
    package static let plain = KeyRing(nil)

    private let keys: EncryptionKeys?
    /// Stands for every epoch.
    private let anyKey: EncryptionKey?
    private let random: @Sendable () -> UInt64
    /// Tests collect what was sealed under which salt and nonce.
    private let observer: FileCipher.Observer?

    /// `random` makes the salts; in production the system's generator.
    package init(
        _ keys: EncryptionKeys?,
        random: @escaping @Sendable () -> UInt64 = { DatabaseEnvironment.drawnSeed() },
        observer: FileCipher.Observer? = nil
    ) {
        self.keys = keys
        anyKey = nil
        self.random = random
        self.observer = observer
    }

    /// For tools that look into one file: `key` is tried whatever epoch it names.
    package init(reading key: EncryptionKey) {
        keys = nil
        anyKey = key
        random = { DatabaseEnvironment.drawnSeed() }
        observer = nil
    }

    /// Epoch of new files; 0 for plain ones.
    package var currentEpoch: UInt32 { keys?.current ?? 0 }

    /// There may be encrypted files, or there will be.
    package var isPlain: Bool { keys == nil }

    /// For a copy of a file whose key is of `epoch`: under the same node key, or plain if that was.
    package func copying(epoch: UInt32) throws(EngineError) -> KeyRing {
        guard let key = keys?.keys[epoch] ?? anyKey, epoch > 0 else { return .plain }
        let own = try EncryptionKeys(current: epoch, keys: [epoch: key])
        return KeyRing(own, random: random, observer: observer)
    }

    package func drawNumber() -> UInt32 { UInt32(truncatingIfNeeded: random()) }

    /// The key of a new file, under a salt of its own; nil if new files are plain.
    package func makeCipher(_ purpose: Purpose) -> FileCipher? {
        guard let keys, let key = keys.keys[keys.current] else { return nil }
        let salt = FileKeyHeader.Salt(random(), random(), random(), random())
        return FileCipher(key, epoch: keys.current, salt: salt, purpose, observer)
    }

    /// The key of the file at `path`, whose header says `header`. Throws `.wrongKey`.
    package func cipher(_ header: FileKeyHeader, _ purpose: Purpose, path: String)
        throws(EngineError) -> FileCipher
    {
        guard let key = keys?.keys[header.epoch] ?? anyKey else {
            throw .wrongKey(epoch: header.epoch, file: path, isMissing: true)
        }
        let cipher = FileCipher(key, epoch: header.epoch, salt: header.salt, purpose, observer)
        guard cipher.header.check == header.check else {
            throw .wrongKey(epoch: header.epoch, file: path, isMissing: false)
        }
        return cipher
    }

    /// As above; nil for a file that is not encrypted.
    package func cipher(_ header: FileKeyHeader?, _ purpose: Purpose, path: String)
        throws(EngineError) -> FileCipher?
    {
        guard let header else { return nil }
        let cipher: FileCipher = try cipher(header, purpose, path: path)
        return cipher
    }
}
