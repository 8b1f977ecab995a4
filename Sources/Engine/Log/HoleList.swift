// The holes of a log: runs of lost entries in index order. Of two that touch it is known by content
// what the first one ends with. Mending takes entries off the end of a run (or, where its last
// checksum is unknown, off its start).

struct HoleList: Sendable {
    private(set) var holes: [LogHole] = []

    var isEmpty: Bool { holes.isEmpty }

    func hole(containing index: LogIndex) -> LogHole? {
        holes.first { $0.lower <= index && index <= $0.upper }
    }

    func intersects(_ lower: LogIndex, _ upper: LogIndex) -> Bool {
        holes.contains { $0.lower <= upper && lower <= $0.upper }
    }

    /// `index` must not be in a hole yet, or nothing happens.
    mutating func insert(_ hole: LogHole) {
        guard !intersects(hole.lower, hole.upper) else { return }
        let place = holes.firstIndex { $0.lower > hole.upper } ?? holes.count
        holes.insert(hole, at: place)
        join(place)
        if place > 0 { join(place - 1) }
    }

    /// Makes one run of a run and its neighbour, unless it is known what the first one ends with.
    private mutating func join(_ place: Int) {
        guard place + 1 < holes.count, holes[place].upper + 1 == holes[place + 1].lower,
            holes[place].checksum == nil
        else { return }
        holes[place].upper = holes[place + 1].upper
        holes[place].checksum = holes[place + 1].checksum
        holes.remove(at: place + 1)
    }

    /// The entry at the end of its run was found: the one before it is known by `previous`.
    mutating func fillUpper(_ index: LogIndex, previous: Digest128) {
        guard let place = holes.firstIndex(where: { $0.upper == index }) else { return }
        if holes[place].lower == index {
            holes.remove(at: place)
        } else {
            holes[place].upper = index - 1
            holes[place].checksum = previous
        }
    }

    /// The entry at the start of its run was found.
    mutating func fillLower(_ index: LogIndex) {
        guard let place = holes.firstIndex(where: { $0.lower == index }) else { return }
        if holes[place].upper == index {
            holes.remove(at: place)
        } else {
            holes[place].lower = index + 1
        }
    }

    mutating func setChecksum(_ checksum: Digest128, endingAt index: LogIndex) {
        guard let place = holes.firstIndex(where: { $0.upper == index }) else { return }
        holes[place].checksum = checksum
    }

    /// Drops what lies above `index`.
    mutating func truncate(after index: LogIndex) {
        holes.removeAll { $0.lower > index }
        if let last = holes.last, last.upper > index {
            holes[holes.count - 1].upper = index
            holes[holes.count - 1].checksum = nil
        }
    }

    /// Drops what lies below `index`.
    mutating func trim(before index: LogIndex) {
        holes.removeAll { $0.upper < index }
        if let first = holes.first, first.lower < index { holes[0].lower = index }
    }
}
