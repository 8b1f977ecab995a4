// Keys that a test may know, salts that come from a seed, and an eye on every message sealed.
import Engine
import Synchronization
import Testing

/// Keys for these epochs, the first of which is current. Epoch 0: plain files.
func testKeys(_ epochs: UInt32...) throws -> EncryptionKeys {
    var keys: [UInt32: EncryptionKey] = [:]
    for epoch in epochs where epoch > 0 { keys[epoch] = try testKey(UInt8(epoch)) }
    return try EncryptionKeys(current: epochs[0], keys: keys)
}

func testKey(_ first: UInt8) throws -> EncryptionKey {
    try EncryptionKey((0..<32).map { first &+ UInt8($0) })
}

func seededNumbers(_ seed: UInt64) -> @Sendable () -> UInt64 {
    let random = SharedRandom(seed)
    return { random.next() }
}

private final class SharedRandom: Sendable {
    private let random: Mutex<SeededRandom>
    init(_ seed: UInt64) { random = Mutex(SeededRandom(seed: seed)) }
    func next() -> UInt64 { random.withLock { $0.next() } }
}

/// Collects salts and nonces; a pair that comes twice is the end of GCM.
final class SealWatch: Sendable {
    struct Use: Hashable, Sendable {
        var salt: FileKeyHeader.Salt
        var nonce: CipherNonce
    }

    private struct State {
        var uses: Set<Use> = []
        var repeated: [Use] = []
    }

    private let state = Mutex(State())

    var observer: FileCipher.Observer {
        { [self] salt, nonce, _ in
            let use = Use(salt: salt, nonce: nonce)
            state.withLock { if !$0.uses.insert(use).inserted { $0.repeated.append(use) } }
        }
    }

    var count: Int { state.withLock { $0.uses.count } }
    var salts: Int { state.withLock { Set($0.uses.map(\.salt)).count } }
    var repeated: [Use] { state.withLock { $0.repeated } }
}

extension Array where Element == UInt8 {
    func contains(_ text: String) -> Bool {
        let needle = Array(text.utf8)
        guard count >= needle.count else { return false }
        return (0...(count - needle.count)).contains {
            self[$0] == needle[0] && self[$0..<($0 + needle.count)].elementsEqual(needle)
        }
    }
}
