// Reads formats whose bytes were validated when their block was loaded: no bounds checks, for the
// paths that run per key. Never for bytes straight off a disk or a peer.

struct UncheckedReader {
    var at: UnsafeRawPointer

    @inline(__always)
    init(_ at: UnsafeRawPointer) { self.at = at }

    @inline(__always)
    mutating func varint() -> UInt64 {
        let first = at.load(as: UInt8.self)
        at += 1
        if first < 0x80 { return UInt64(first) }
        var result = UInt64(first & 0x7f)
        var shift: UInt64 = 7
        while true {
            let byte = at.load(as: UInt8.self)
            at += 1
            result |= UInt64(byte & 0x7f) &<< shift
            if byte < 0x80 { return result }
            shift &+= 7
        }
    }
}
