// The public iterator shows what `scan` gives, from any place and in both directions.
import Engine
import Testing

@Suite struct PairIteratorTests {
    @Test func `What has expired does not come back with the clock`() throws {
        let rig = try DatabaseRig()
        let key = bytes("k")
        try rig.database.put(key, bytes("v"), expiry: rig.clock.milliseconds + 100)
        rig.clock.advance(150)
        #expect(try rig.database.get(key) == nil)
        try rig.database.put(bytes("other"), [1])
        let snapshot = rig.database.snapshot()
        rig.clock.stepBack(120)
        #expect(try rig.database.get(key) == nil)
        #expect(try rig.database.multiGet([key]) == [nil])
        #expect(try rig.database.scan(.everything).count == 1)
        #expect(try snapshot.get(key) == nil)
        #expect(try snapshot.scan(.everything).count == 1)
        #expect(try rig.database.begin().get(key) == nil)
        let iterator = try rig.database.iterator(over: .everything)
        try iterator.seekToFirst()
        #expect(iterator.current?.key == bytes("other"))
    }

    private func filled(seed: UInt64) throws -> DatabaseRig {
        let rig = try DatabaseRig(seed: seed)
        var random = SeededRandom(seed: seed)
        for step in 0..<600 {
            let key = bytes("k\(100 + random.below(200))")
            switch random.below(10) {
            case 0: try rig.database.delete(key)
            case 1: try rig.database.deleteRange(key, key + [0xff])
            case 2:
                let expiry = rig.clock.milliseconds + UInt64(random.below(2_000))
                try rig.database.put(key, bytes("v\(step)"), expiry: expiry)
            default: try rig.database.put(key, bytes("v\(step)"))
            }
        }
        rig.clock.advance(1_000)
        return rig
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `It shows what a scan gives, both ways and from any place`(seed: UInt64) throws {
        let rig = try filled(seed: seed)
        let span = KeySpan(start: bytes("k120"), end: bytes("k260"))
        let pairs = try rig.database.scan(span)
        let keys = pairs.map(\.key)
        try #require(keys.count > 20)
        let iterator = try rig.database.iterator(over: span)
        #expect(!iterator.isValid)
        #expect(iterator.current == nil)

        try iterator.seekToFirst()
        for pair in pairs {
            let current = try #require(iterator.current)
            #expect(current.key == pair.key && current.value == pair.value)
            try iterator.next()
        }
        #expect(!iterator.isValid)
        try iterator.next()
        #expect(!iterator.isValid)

        try iterator.seekToLast()
        for key in keys.reversed() {
            #expect(iterator.current?.key == key)
            try iterator.previous()
        }
        #expect(!iterator.isValid)

        for number in 90..<310 {
            let place = bytes("k\(number)")
            let after = keys.first { !$0.isKeyBefore(place) }
            let before = keys.last { !place.isKeyBefore($0) }
            try iterator.seek(place)
            #expect(iterator.current?.key == after)
            if after != nil { try iterator.previous() }
            if after != nil {
                #expect(iterator.current?.key == keys.last { $0.isKeyBefore(place) })
            }
            try iterator.seekForPrevious(place)
            #expect(iterator.current?.key == before)
        }
    }

    @Test func `It stays with its moment, and with its snapshot`() throws {
        let rig = try filled(seed: 9)
        let keys = try rig.database.scan(.everything).map(\.key)
        let snapshot = rig.database.snapshot()
        let iterator = try rig.database.iterator()
        try rig.database.deleteRange([], nil)
        try rig.database.put(bytes("later"), [1])
        for iterator in [iterator, try snapshot.iterator()] {
            var seen: [[UInt8]] = []
            try iterator.seekToFirst()
            while let (key, _) = iterator.current {
                seen.append(key)
                try iterator.next()
            }
            #expect(seen == keys)
        }
    }

    @Test func `Of a closed database it reads nothing`() throws {
        let rig = try filled(seed: 3)
        let iterator = try rig.database.iterator()
        try iterator.seekToFirst()
        try rig.database.close()
        #expect(throws: EngineError.self) { try iterator.next() }
        #expect(throws: EngineError.self) { try iterator.seek([1]) }
        #expect(throws: EngineError.self) { try rig.database.iterator() }
    }
}
