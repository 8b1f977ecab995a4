// A filter ready for queries, whatever its kind: in place over bytes that somebody keeps
// (`FilterView`, for a block in the cache), or with memory of its own (`ResidentFilter`).

/// What a filter's first byte says.
public enum FilterKind: UInt8, Sendable, CaseIterable {
    /// No filter.
    case none = 0
    /// Blocked Bloom: builds fastest.
    case bloom = 1
    /// Bumped ribbon: smallest.
    case burr = 2

    /// The largest bits a key that the kind can use.
    var bitsMax: Int { self == .burr ? BurrFormat.bitsRange.upperBound : 64 }

    /// Canonical bytes of a filter over `hashes`; not for `none`.
    func encode(_ hashes: [UInt64], bits: Int) -> [UInt8] {
        switch self {
        case .bloom: return BlockedBloomFilter.encode(hashes, bitsPerKey: bits)
        case .burr: return BurrFilter.encode(hashes, bits: bits)
        case .none: brokenInvariant("a filter of no kind")
        }
    }
}

struct FilterView {
    private let base: UnsafeRawPointer

    /// Bytes that stand for a filter that could not be read: every answer is "maybe".
    static let unknown: [UInt8] = [FilterKind.none.rawValue]

    /// `base` is where bytes start that `validate` accepted, or `unknown`.
    @inline(__always)
    init(_ base: UnsafeRawPointer) { self.base = base }

    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        switch base.load(as: UInt8.self) {
        case BurrFormat.kind: return BurrView(base).mayContain(hash)
        case BlockedBloomFilter.kind: return BlockedBloomView(base).mayContain(hash)
        default: return true
        }
    }

    static func validate(_ bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        switch bytes.first {
        case BurrFormat.kind: try BurrView.validate(bytes)
        case BlockedBloomFilter.kind: try BlockedBloomView.validate(bytes)
        default: throw DecodingError("a filter of an unknown kind")
        }
    }
}

/// A filter in memory, aligned to cache lines. Lives as long as its table is open.
package final class ResidentFilter: @unchecked Sendable {
    // @unchecked: immutable after init.
    private enum View {
        case bloom(BlockedBloomView)
        case burr(BurrView)
    }

    private let memory: UnsafeMutableRawPointer
    private let view: View
    package let residentBytes: Int

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        try FilterView.validate(bytes)
        memory = .allocate(byteCount: bytes.count, alignment: 64)
        memory.copyMemory(from: bytes.baseAddress.unsafelyUnwrapped, byteCount: bytes.count)
        residentBytes = bytes.count
        view =
            bytes[0] == BurrFormat.kind
            ? .burr(BurrView(memory)) : .bloom(BlockedBloomView(memory))
    }

    deinit { memory.deallocate() }

    /// Has the CPU fetch what the answer for `hash` needs; of a Bloom filter nothing, which needs
    /// one line.
    func prefetch(_ hash: UInt64) {
        if case .burr(let filter) = view { filter.prefetch(hash) }
    }

    /// False only if no key with this hash was added.
    @inline(__always)
    package func mayContain(_ hash: UInt64) -> Bool {
        switch view {
        case .burr(let filter): return filter.mayContain(hash)
        case .bloom(let filter): return filter.mayContain(hash)
        }
    }
}
