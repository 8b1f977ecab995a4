// The examples of the embedded API's documentation, run on real files. `scripts/tidy.py` checks
// that each one in `Engine.docc` stands here, so they compile and do what they say.
import Engine
import Testing

@Suite struct EmbeddedExampleTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private var path: String { directory.path + "/fruit" }

    @Test func `A store in ten lines`() throws {
        var colors: [String] = []
        let database = try Database.open(path)
        try database.put(Array("apple".utf8), Array("red".utf8))
        try database.put(Array("pear".utf8), Array("green".utf8))
        let color = try database.get(Array("apple".utf8))
        for pair in try database.scan(.prefix(Array("a".utf8))) {
            colors.append(String(decoding: pair.value.value, as: UTF8.self))
        }
        try database.close()
        #expect(color == Array("red".utf8))
        #expect(colors == ["red"])
    }

    @Test func `Several writes at once`() throws {
        let database = try Database.open(path)
        for key in ["apple", "temporary/1", "temporary/2"] { try database.put(bytes(key), [1]) }
        var batch = WriteBatch()
        batch.delete(Array("apple".utf8))
        batch.put(Array("plum".utf8), Array("blue".utf8))
        batch.deletePrefix(Array("temporary/".utf8))
        try database.write(batch)
        #expect(try database.scan(.everything).map(\.key) == [bytes("plum")])
        try database.close()
    }

    @Test func `Walking over many pairs`() throws {
        let database = try Database.open(path)
        for key in ["apple", "peach", "pine", "plum", "quince"] {
            try database.put(bytes(key), bytes(key.uppercased()))
        }
        var printed: [[UInt8]] = []
        func print(_ key: [UInt8], _ value: [UInt8]) { printed += [key, value] }
        let iterator = try database.iterator(over: .prefix(Array("p".utf8)))
        try iterator.seek(Array("pi".utf8))
        while let (key, value) = iterator.current {
            print(key, value.value)
            try iterator.next()
        }
        #expect(printed == ["pine", "PINE", "plum", "PLUM"].map { bytes($0) })
        try database.close()
    }

    @Test func `Long values`() throws {
        var options = DatabaseOptions()
        options.settings.blobThreshold = 1024
        let database = try Database.open(path, options: options)
        let long = [UInt8](repeating: 7, count: 5_000)
        try database.put(bytes("apple"), long)
        try database.flush()
        #expect(try database.get(bytes("apple")) == long)
        #expect(database.tables().contains { $0.isBlob })
        try database.close()
    }

    @Test func `Reading one state`() throws {
        var options = DatabaseOptions()
        options.store.historyWindowMilliseconds = 60_000
        let database = try Database.open(path, options: options)
        try database.put(bytes("plum"), bytes("blue"))
        let before = database.sequence
        let snapshot = database.snapshot()
        try database.put(Array("plum".utf8), Array("eaten".utf8))
        let kept = try snapshot.get(Array("plum".utf8))
        let past = try database.snapshot(asOf: before).get(Array("plum".utf8))
        #expect(kept == bytes("blue") && past == kept)
        #expect(try database.get(bytes("plum")) == bytes("eaten"))
        try database.close()
    }

    @Test func `Reading, deciding, writing`() throws {
        let database = try Database.open(path)
        try database.put(bytes("stock"), [2])
        try database.transact { transaction in
            let stock = try transaction.get(Array("stock".utf8)) ?? [0]
            guard let left = stock.first, left > 0 else { return }
            transaction.put(Array("stock".utf8), [left - 1])
            transaction.put(Array("order".utf8), [1])
        }
        #expect(try database.get(bytes("stock")) == [1])
        #expect(try database.get(bytes("order")) == [1])
        try database.close()
    }

    @Test func `Changing without reading`() throws {
        let database = try Database.open(path)
        let one = withUnsafeBytes(of: Int64(1).littleEndian) { Array($0) }
        try database.merge(Array("visits".utf8), one, by: .int64Add)
        try database.merge(Array("visits".utf8), one, by: .int64Add)
        #expect(try database.get(bytes("visits")) == MergeReference.bytes(2))
        try database.close()
    }

    @Test func `Loading sorted data`() throws {
        let database = try Database.open(path)
        let sorted = [(key: Array("apple".utf8), value: Array("red".utf8))].lazy
        do {
            try database.ingest(sorted)
        } catch {
            print("\(error.count) pairs are in, the last is \(error.lastKey ?? [])")
            throw error.cause
        }
        #expect(try database.get(bytes("apple")) == bytes("red"))
        try database.close()
    }

    @Test func `Following a database`() throws {
        let database = try Database.open(path)
        var sequence = database.sequence
        var seen: [[UInt8]] = []
        try database.put(bytes("plum"), [1])
        for round in 0..<2 {
            let stream = try database.changes(after: sequence)
            for change in try stream.take() {
                if case .put(let key, _, _) = change.effect { seen.append(key) }
            }
            sequence = stream.sequence
            if round == 0 { try database.put(bytes("pear"), [1]) }
        }
        #expect(seen == [bytes("plum"), bytes("pear")])
        try database.close()
    }

    @Test func `Copies`() throws {
        let copyPath = directory.path + "/copy"
        let database = try Database.open(path)
        try database.put(bytes("plum"), [1])
        try database.checkpoint(to: copyPath)
        let copy = try Database.open(copyPath)
        try database.put(bytes("plum"), [2])
        #expect(try copy.get(bytes("plum")) == [1])
        try copy.close()
        try database.close()
    }
}
