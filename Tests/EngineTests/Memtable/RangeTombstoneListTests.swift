// Range tombstone lists against a look at every tombstone.

import Engine
import Testing

@Suite struct RangeTombstoneListTests {
    private func random(_ count: Int, _ random: inout TableTestRandom) -> [RangeTombstone] {
        (0..<count).map { _ in
            let start = random.bytes(random.below(3))
            let end = random.below(5) == 0 ? nil : random.bytes(random.below(3) + 1)
            return RangeTombstone(
                span: KeySpan(start: start, end: end),
                sequence: SequenceNumber(UInt64(random.below(200) + 1)))
        }
    }

    private func expected(_ all: [RangeTombstone], _ key: [UInt8], _ at: SequenceNumber)
        -> SequenceNumber?
    { all.filter { $0.span.contains(key) && $0.sequence <= at }.map(\.sequence).max() }

    @Test(arguments: [0, 1, 2, 3, 7, 40, 130])
    func answersLikeALookAtEveryTombstone(count: Int) {
        var random = TableTestRandom(seed: UInt64(count))
        let all = self.random(count, &random)
        var appended = RangeTombstoneList.empty
        for tombstone in all { appended = appended.appending(tombstone) }
        for list in [RangeTombstoneList(all), appended] {
            #expect(list.count == count && list.isEmpty == (count == 0))
            #expect(Set(list.tombstones) == Set(all))
            for _ in 0..<800 {
                let key = random.bytes(random.below(4))
                let at = SequenceNumber(UInt64(random.below(220)))
                let found = withBytes(key) { list.covering($0, at: at) }
                #expect(found == expected(all, key, at))
            }
        }
    }

    @Test func windowsHoldOneAnswer() {
        var random = TableTestRandom(seed: 77)
        let all = self.random(25, &random)
        var list = RangeTombstoneList.empty
        for tombstone in all { list = list.appending(tombstone) }
        for _ in 0..<300 {
            let key = random.bytes(random.below(4))
            let at = SequenceNumber(UInt64(random.below(220)))
            let window = withBytes(key) { list.window(around: $0, at: at) }
            let span = KeySpan(start: window.start, end: window.end)
            #expect(span.contains(key))
            for _ in 0..<20 {
                let other = random.bytes(random.below(4))
                if span.contains(other) {
                    #expect(expected(all, other, at) == window.sequence)
                }
            }
        }
    }

    /// Nested ranges are the worst case of plain fragments (n² of them); appending one by one is
    /// the worst case of rebuilding. Both must stay near n log² n.
    @Test func manyNestedRangesStayCheap() {
        var list = RangeTombstoneList.empty
        let count: UInt64 = 4000
        func key(_ number: UInt64) -> [UInt8] {
            withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) }
        }
        for number in 0..<count {
            list = list.appending(
                RangeTombstone(
                    span: KeySpan(start: key(number), end: key(1_000_000 - number)),
                    sequence: SequenceNumber(number + 1)))
        }
        for number in stride(from: 0, to: count, by: 37) {
            let found = withBytes(key(number)) { list.covering($0, at: SequenceNumber(count)) }
            #expect(found == SequenceNumber(number + 1))
        }
        #expect(list.count == Int(count))
    }
}
