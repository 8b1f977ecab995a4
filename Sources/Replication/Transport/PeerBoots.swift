// The newest start of each member that this node has spoken to, kept over its own restarts: a
// member that comes back with an older one, or with an empty directory, has lost what it promised,
// and may neither vote nor count before it says so.
//
// File `peers`: "PEER" u32, version u16, count u16, then per member: id, counter, nonce u64 each;
// XXH3-128 of all before. Replaced whole. Layout: docs/formats/node.md.
import Engine
import Synchronization

package final class PeerBoots: Sendable {
    package typealias Boots = [MemberID: HandshakeRules.Boot]

    private static let magic: UInt32 = 0x5245_4550  // "PEER"
    private static let version: UInt16 = 1
    private static let fileBytesMax: UInt64 = 4_096

    private let fileSystem: any FileSystem
    private let path: String
    private let known: Mutex<Boots>

    /// Reads the file; a missing one is empty, and so is a damaged one, which `note` is told.
    package init(
        _ fileSystem: any FileSystem, path: String, note: (String) -> Void
    ) throws(EngineError) {
        self.fileSystem = fileSystem
        self.path = path
        var boots: Boots = [:]
        if fileSystem.exists(path) {
            let problem: String?
            do throws(FileError) {
                let bytes = try fileSystem.readAll(path, limit: PeerBoots.fileBytesMax)
                problem = PeerBoots.load(bytes, into: &boots)
            } catch {
                problem = error.description
            }
            if let problem {
                note("\(path) is damaged (\(problem)): earlier starts of the members are forgotten")
            }
        }
        known = Mutex(boots)
    }

    /// What is wrong with the file; nil if it was read.
    private static func load(_ bytes: [UInt8], into boots: inout Boots) -> String? {
        do throws(DecodingError) {
            boots = try decode(bytes)
            return nil
        } catch { return error.what }
    }

    package var all: Boots { known.withLock { $0 } }

    /// Durable when it returns.
    package func remember(_ boot: HandshakeRules.Boot, of member: MemberID) throws(FileError) {
        // Held while the file is written: two starts must not overtake each other.
        try known.withLock { (boots) throws(FileError) in
            guard boots[member] != boot else { return }
            boots[member] = boot
            try fileSystem.replace(path, with: PeerBoots.encode(boots))
        }
    }

    package static func encode(_ boots: Boots) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(magic)
        writer.write(version)
        writer.write(UInt16(boots.count))
        for (member, boot) in boots.sorted(by: { $0.key < $1.key }) {
            writer.write(member.rawValue)
            writer.write(boot.counter)
            writer.write(boot.nonce)
        }
        writer.write(Digest128(of: writer.bytes))
        return writer.bytes
    }

    package static func decode(_ bytes: [UInt8]) throws(DecodingError) -> Boots {
        try bytes.withBytes { (bytes) throws(DecodingError) in
            var reader = ByteReader(bytes)
            guard try reader.read(UInt32.self) == magic else {
                throw DecodingError("it does not hold members' starts")
            }
            let version = try reader.read(UInt16.self)
            guard version == PeerBoots.version else {
                throw DecodingError("version \(version) is not supported")
            }
            let count = Int(try reader.read(UInt16.self))
            guard count <= Limits.members else { throw DecodingError("\(count) members") }
            var boots: Boots = [:]
            for _ in 0..<count {
                let member = MemberID(try reader.read(UInt64.self))
                boots[member] = HandshakeRules.Boot(
                    counter: try reader.read(UInt64.self), nonce: try reader.read(UInt64.self))
            }
            let covered = UnsafeRawBufferPointer(rebasing: bytes[..<reader.offset])
            guard try reader.readDigest() == Digest128(of: covered) else {
                throw DecodingError("its checksum does not match")
            }
            try reader.expectEnd("members' starts")
            return boots
        }
    }
}
