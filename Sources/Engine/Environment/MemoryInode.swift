// The content of one file of `MemoryFileSystem`: what processes see (`content`, the page cache)
// and, for each 512-byte sector written since the last sync, what the medium may hold instead. A
// power cut picks one of these per sector, in any order, which is all that a disk promises.
//
// Guarded by the lock of the file system that holds it.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class MemoryInode {
    static let sectorBytes = 512
    private static let zeros = [UInt8](repeating: 0, count: sectorBytes)
    /// Unsynced versions of a sector that are remembered besides the durable one.
    private static let versionsMax = 4

    /// What a read returns.
    private(set) var content: [UInt8] = []
    /// Per sector written since the last sync: the durable version, then older unsynced ones. The
    /// newest is in `content`.
    private var unsynced: [Int: [[UInt8]]] = [:]
    /// Sectors that a failed sync marked clean: no sync writes them, a power cut reverts them.
    private var lost: Set<Int> = []
    private var durableSize = 0
    private var isSizeLost = false
    /// The largest size since the last sync: a truncation may be lost after it reached the medium.
    private var peakSize = 0
    /// Damage that only the page cache has: offset and mask.
    private var cacheFlips: [(offset: Int, mask: UInt8)] = []
    private var unreadable: [Range<UInt64>] = []
    /// The newest mapping; its bytes stand for the first part of `content` while it lives.
    private(set) var mapping: UnsafeMutableRawBufferPointer?

    var size: Int { content.count }

    // MARK: Reading

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, fromMedium: Bool)
        -> Int?
    {
        let end = offset &+ UInt64(buffer.count)
        if unreadable.contains(where: { $0.overlaps(offset..<max(end, offset)) }) { return nil }
        guard offset < UInt64(content.count) else { return 0 }
        let start = Int(offset)
        let count = min(buffer.count, content.count - start)
        content.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + count)]))
        }
        if let mapping, start < mapping.count {
            let mapped = mapping[start..<min(start + count, mapping.count)]
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: mapped))
        }
        if fromMedium {
            overlayLostSectors(start, count, buffer)
        } else {
            for flip in cacheFlips where (start..<(start + count)).contains(flip.offset) {
                buffer[flip.offset - start] ^= flip.mask
            }
        }
        return count
    }

    /// The medium never saw what a failed sync dropped.
    private func overlayLostSectors(
        _ start: Int, _ count: Int, _ buffer: UnsafeMutableRawBufferPointer
    ) {
        for sector in lost {
            guard let durable = unsynced[sector]?.first else { continue }
            for (place, byte) in durable.enumerated() {
                let offset = sector * MemoryInode.sectorBytes + place
                if (start..<(start + count)).contains(offset) { buffer[offset - start] = byte }
            }
        }
    }

    // MARK: Writing

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard bytes.count > 0 else { return }
        absorbMapping()
        store(bytes, at: offset)
        if let mapping, offset < mapping.count {
            let count = min(bytes.count, mapping.count - offset)
            UnsafeMutableRawBufferPointer(rebasing: mapping[offset..<(offset + count)])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[0..<count]))
        }
    }

    private func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        let end = offset + bytes.count
        for sector in sectors(offset..<end) { remember(sector) }
        if end > content.count { grow(to: end) }
        // Writing the file's end again carries its size to the medium, as file systems have it.
        if end == content.count { isSizeLost = false }
        content.withUnsafeMutableBytes {
            UnsafeMutableRawBufferPointer(rebasing: $0[offset..<end]).copyMemory(from: bytes)
        }
        cacheFlips.removeAll { (offset..<end).contains($0.offset) }
    }

    func truncate(to size: Int) {
        absorbMapping()
        if size > content.count {
            grow(to: size)
        } else if size < content.count {
            for sector in sectors(size..<content.count) { remember(sector) }
            peakSize = max(peakSize, content.count)
            content.removeLast(content.count - size)
            isSizeLost = false
        }
    }

    private func grow(to size: Int) {
        content += [UInt8](repeating: 0, count: size - content.count)
        isSizeLost = false
    }

    /// Keeps the present version of a sector that is about to change.
    private func remember(_ sector: Int) {
        lost.remove(sector)
        let present = bytes(ofSector: sector)
        guard var versions = unsynced[sector] else {
            unsynced[sector] = [present]
            return
        }
        if versions.count == MemoryInode.versionsMax { versions.removeLast() }
        versions.append(present)
        unsynced[sector] = versions
    }

    private func sectors(_ range: Range<Int>) -> ClosedRange<Int> {
        let sector = MemoryInode.sectorBytes
        return range.lowerBound / sector...(range.upperBound - 1) / sector
    }

    /// Zero-padded to a whole sector.
    private func bytes(ofSector sector: Int) -> [UInt8] {
        guard sector * MemoryInode.sectorBytes < content.count else { return MemoryInode.zeros }
        let start = min(sector * MemoryInode.sectorBytes, content.count)
        let end = min(start + MemoryInode.sectorBytes, content.count)
        if end - start == MemoryInode.sectorBytes { return [UInt8](content[start..<end]) }
        return Array(content[start..<end])
            + MemoryInode.zeros.prefix(MemoryInode.sectorBytes - end + start)
    }

    // MARK: Durability

    func sync() {
        absorbMapping()
        if lost.isEmpty {
            unsynced.removeAll(keepingCapacity: true)
        } else {
            unsynced = unsynced.filter { lost.contains($0.key) }
        }
        if !isSizeLost {
            durableSize = content.count
            peakSize = 0
        }
    }

    /// Pages are marked clean, and never written.
    func failSync() {
        absorbMapping()
        lost.formUnion(unsynced.keys)
        if durableSize != content.count { isSizeLost = true }
    }

    /// The file as a power cut now may leave it.
    func afterPowerCut(_ random: inout SeededRandom) -> MemoryInode {
        absorbMapping()
        var survivors = content
        let size = sizeAfterPowerCut(&random)
        if survivors.count < max(size, durableSize) {
            survivors += [UInt8](repeating: 0, count: max(size, durableSize) - survivors.count)
        }
        var fate = SectorFate(&random)
        for (sector, versions) in unsynced.sorted(by: { $0.key < $1.key }) {
            let version = fate.choose(
                sector: sector, versions: versions.count, isLost: lost.contains(sector), &random)
            guard let version else { continue }
            overwrite(&survivors, sector: sector, with: versions[version])
        }
        let inode = MemoryInode()
        inode.content = [UInt8](survivors.prefix(size))
        inode.durableSize = size
        inode.unreadable = unreadable
        return inode
    }

    private func sizeAfterPowerCut(_ random: inout SeededRandom) -> Int {
        let low = min(durableSize, content.count)
        let high = max(durableSize, content.count, peakSize)
        if isSizeLost || low == high { return durableSize }
        switch random.below(peakSize == high ? 4 : 3) {
        case 0: return durableSize
        case 1: return content.count
        case 2: return low + random.below(high - low + 1)
        default: return peakSize
        }
    }

    private func overwrite(_ bytes: inout [UInt8], sector: Int, with version: [UInt8]) {
        let start = sector * MemoryInode.sectorBytes
        guard start < bytes.count else { return }
        let count = min(version.count, bytes.count - start)
        bytes.replaceSubrange(start..<(start + count), with: version[0..<count])
    }

    // MARK: Mapping

    /// Takes the place of an older mapping, whose later stores are lost.
    func attach(_ bytes: UnsafeMutableRawBufferPointer) {
        absorbMapping()
        if content.count < bytes.count { truncate(to: bytes.count) }
        content.withUnsafeBytes {
            bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[0..<bytes.count]))
        }
        mapping = bytes
    }

    func detach(_ bytes: UnsafeMutableRawBufferPointer) {
        guard mapping?.baseAddress == bytes.baseAddress else { return }
        absorbMapping()
        mapping = nil
    }

    /// Takes over what was stored through the mapping: the sectors that differ became dirty.
    func absorbMapping() {
        guard let mapping else { return }
        let mapped = UnsafeRawBufferPointer(mapping)
        if content.count < mapped.count { grow(to: mapped.count) }
        var offset = 0
        while offset < mapped.count {
            let count = min(MemoryInode.sectorBytes, mapped.count - offset)
            let slice = UnsafeRawBufferPointer(rebasing: mapped[offset..<(offset + count)])
            if !isEqual(slice, at: offset) { store(slice, at: offset) }
            offset += count
        }
    }

    private func isEqual(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        guard let left = bytes.baseAddress else { return true }
        return content.withUnsafeBytes { all in
            guard let right = all.baseAddress else { return false }
            return memcmp(left, right + offset, bytes.count) == 0
        }
    }

    // MARK: Damage

    func flip(at offset: Int, mask: UInt8, onMedium: Bool) {
        guard offset < content.count else { return }
        absorbMapping()
        guard onMedium else {
            cacheFlips.append((offset, mask))
            return
        }
        content[offset] ^= mask
        if let mapping, offset < mapping.count { mapping[offset] ^= mask }
        let (sector, place) = offset.quotientAndRemainder(dividingBy: MemoryInode.sectorBytes)
        if let versions = unsynced[sector] {
            unsynced[sector] = versions.map {
                var version = $0
                version[place] ^= mask
                return version
            }
        }
    }

    func setUnreadable(_ ranges: [Range<UInt64>]) { unreadable = ranges }

    func byte(at offset: Int) -> UInt8 {
        absorbMapping()
        return content[offset]
    }
}

/// What one power cut does to one file: everything kept, nothing, a prefix, a suffix (write-back in
/// the opposite order) or a random subset; in units of sectors or of pages.
private struct SectorFate {
    private enum Mode { case all, none, random, below, above }
    private let mode: Mode
    private let sectorsPerUnit: Int
    private let pivot: Int
    private var unit = -1
    private var isUnitKept = false
    private var first: Int?

    init(_ random: inout SeededRandom) {
        mode = [.all, .none, .random, .random, .below, .above][random.below(6)]
        sectorsPerUnit = random.oneIn(2) ? 1 : 8
        pivot = random.below(64)
    }

    /// Index of the older version that survives; nil if the newest does. Sectors come in order.
    mutating func choose(
        sector: Int, versions: Int, isLost: Bool, _ random: inout SeededRandom
    ) -> Int? {
        if sector / sectorsPerUnit != unit {
            unit = sector / sectorsPerUnit
            isUnitKept = isKept(sector, &random)
        }
        if isLost || !isUnitKept { return 0 }
        // Written back once before the last change.
        return versions > 1 && random.oneIn(4) ? 1 + random.below(versions - 1) : nil
    }

    private mutating func isKept(_ sector: Int, _ random: inout SeededRandom) -> Bool {
        let start = first ?? sector
        first = start
        switch mode {
        case .all: return true
        case .none: return false
        case .random: return random.oneIn(2)
        case .below: return sector - start < pivot
        case .above: return sector - start >= pivot
        }
    }
}
