// Decoders under bytes of any content. A target promises nothing but that its decoder returns or
// throws: it traps where a decoder traps, and where what was decoded does not read back as itself.
// `scripts/fuzz` drives them with libFuzzer; the tests run the committed corpus through them.

import Engine

package struct FuzzTarget: Sendable {
    /// Also the name of its corpus.
    package let name: String
    package let run: @Sendable (UnsafeRawBufferPointer) -> Void

    init(_ name: String, _ run: @escaping @Sendable (UnsafeRawBufferPointer) -> Void) {
        self.name = name
        self.run = run
    }

    package static let all =
        logTargets + tableTargets + manifestTargets + peerTargets + consensusTargets

    /// One whose values have to read back from their own encoding.
    static func roundTrip<Value: Equatable & Sendable>(
        _ name: String,
        _ decode: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Value,
        _ encode: @escaping @Sendable (Value) -> [UInt8]
    ) -> FuzzTarget {
        FuzzTarget(name) { bytes in
            guard let value = try? decode(bytes) else { return }
            let again = try? encode(value).withUnsafeBytes(decode)
            precondition(again == value, "\(name) does not read back what it wrote")
        }
    }
}

/// Bytes whose checksum was made right, so that what stands behind it is reached: without this a
/// fuzzer would have to guess it.
struct Sealed {
    private(set) var bytes: [UInt8]

    /// CRC32C of all bytes before `offset`, stored there; shorter bytes stay as they are.
    init(_ raw: UnsafeRawBufferPointer, checksumAt offset: Int) {
        bytes = [UInt8](raw)
        guard bytes.count >= offset + 4 else { return }
        let checksum = Checksum.crc32c([UInt8](bytes[..<offset]))
        for place in 0..<4 {
            bytes[offset + place] = UInt8(truncatingIfNeeded: checksum >> (8 * place))
        }
    }
}

/// A file in memory with these bytes.
func memoryFile(_ bytes: UnsafeRawBufferPointer, named path: String) throws -> MemoryFileSystem {
    let files = MemoryFileSystem(seed: 1)
    try files.createDirectory("/f")
    let file = try files.open(path, .create)
    try file.write(bytes, at: 0)
    return files
}
