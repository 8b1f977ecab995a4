// Damage to the disks of a simulated cluster, and looks into their files.
import Engine
import Replication

extension SimulatedCluster {
    package static let tables = "data/group-0/sst"
    package static let log = "data/group-0/log"

    package func tableFiles(_ place: Int) -> [TableID] {
        let names = (try? disks[place].list(SimulatedCluster.tables)) ?? []
        return names.compactMap { TableHandle.parse(fileName: $0)?.id }
    }

    package func size(_ place: Int, _ path: String) -> UInt64 {
        (try? disks[place].open(path, .read).size()) ?? 0
    }

    package func segments(_ place: Int) -> [String] {
        let names = (try? disks[place].list(SimulatedCluster.log)) ?? []
        return names.filter { $0.hasSuffix(".seg") }.map { SimulatedCluster.log + "/" + $0 }
    }

    package func logBytes(_ place: Int) -> UInt64 {
        segments(place).reduce(0) { $0 + size(place, $1) }
    }

    package func largestTable(_ place: Int, isBlob: Bool = false) -> (id: TableID, path: String)? {
        let names = (try? disks[place].list(SimulatedCluster.tables)) ?? []
        let found = names.compactMap { name in
            TableHandle.parse(fileName: name).map {
                (id: $0.id, path: SimulatedCluster.tables + "/" + name)
            }
        }
        return found.filter { $0.id.kind.isBlob == isBlob }
            .max { size(place, $0.path) < size(place, $1.path) }
    }

    /// Flips a byte in a data block of the largest table, or blob file: at `part` of `whole` of the
    /// front half of its blocks. Never in a dictionary, which would lose all of them.
    package func rotTable(_ place: Int, part: UInt64, of whole: UInt64, isBlob: Bool = false) throws
        -> TableID?
    {
        guard let table = largestTable(place, isBlob: isBlob) else { return nil }
        let file = try disks[place].open(table.path, .read)
        let header = try file.readBytes(at: 128, count: 80)
        let isDictionary = header[4] == 64
        let length = header[32..<36].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let start = isDictionary ? 128 + 80 + length : 128
        let offset = start + 80 + (try file.size() - start) / 2 * part / whole
        disks[place].flip(table.path, offset, mask: 0x10)
        return table.id
    }

    /// Flips bits in entries of a stopped node's log; returns the indexes of those that it has to
    /// replay, since they are above `flushed`. The last entries are spared: rot of exactly the last
    /// synced group reads as torn; and those of `spared`, which another node may have lost.
    package func rotLogEntries(
        _ place: Int, count: Int, above flushed: LogIndex, sparing spared: [LogIndex] = []
    ) throws -> [LogIndex] {
        var found = try loggedEntries(place)
        let last = found.last?.header.index ?? .zero
        found.removeAll { spared.contains($0.header.index) }
        let replayed = found.filter { $0.header.index > flushed && $0.header.index + 6 < last }
        let history = found.filter { $0.header.index <= flushed }
        var damaged: [LogIndex] = []
        for candidates in [replayed, history] where !candidates.isEmpty {
            for _ in 0..<count {
                let item = candidates[draw(candidates.count)]
                guard !damaged.contains(item.header.index) else { continue }
                rot(item, of: place)
                damaged.append(item.header.index)
            }
        }
        return damaged.filter { $0 > flushed }
    }

    /// Flips a bit in each of the last entries of a stopped node's log; returns what they were.
    package func rotLastLogEntries(_ place: Int, count: Int) throws -> [EntryHeader] {
        let last = try loggedEntries(place).suffix(count)
        for item in last { rot(item, of: place) }
        return last.map(\.header)
    }

    private struct LoggedEntry {
        var path: String
        var offset: UInt64
        var header: EntryHeader
    }

    private func loggedEntries(_ place: Int) throws -> [LoggedEntry] {
        var found: [LoggedEntry] = []
        for path in segments(place) {
            _ = try SegmentInspection.inspect(disks[place].open(path, .read)) { item in
                found.append(LoggedEntry(path: path, offset: item.offset, header: item.header))
                return true
            }
        }
        return found
    }

    /// Behind the frame: in the entry's header or payload.
    private func rot(_ entry: LoggedEntry, of place: Int) {
        disks[place].flip(entry.path, entry.offset + 40 + UInt64(draw(60)), mask: 0x04)
    }
}
