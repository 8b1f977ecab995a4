// What `martlet manifest dump` prints, of the manifest of a real database.
import Engine
import Foundation
import Node
import Testing

@Suite struct ManifestTextTests {
    private func makeDatabase() throws -> String {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("martlet-manifest-\(UUID().uuidString)").path
        let database = try Database.open(directory)
        for number in UInt8(0)..<100 { try database.put([0x6b, number], [0x76]) }
        try database.flush()
        try database.compactAll()
        try database.close()
        return directory
    }

    private func inspect(_ path: String) throws -> ManifestInspection {
        try ManifestInspection.inspect(POSIXFileSystem(), path)
    }

    @Test func aManifestIsShownWithItsTablesAndRecords() throws {
        let directory = try makeDatabase()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let found = try inspect(directory)
        let state = try #require(found.state)
        let table = try #require(state.manifest.tables.sortedByID.first)
        let text = ManifestText.text(found, withRecords: true)
        #expect(text.contains(table.id.description) && text.contains(table.digest.description))
        #expect(text.contains("frontier          \(state.frontier)\n"))
        #expect(text.contains("state root        \(state.manifest.stateRoot())\n"))
        #expect(text.contains("snapshot at ") && !text.contains("damaged"))
        #expect(!ManifestText.text(found, withRecords: false).contains("snapshot at "))
        let read = try JSONSerialization.jsonObject(with: Data(ManifestText.json(found).utf8))
        let json = try #require(read as? [String: Any])
        let tables = try #require(json["tables"] as? [[String: Any]])
        #expect(tables.map { $0["id"] as? String } == [table.id.description])
        #expect((json["log"] as? [[String: Any]])?.count == found.records.count)
        #expect(json["damaged"] as? Bool == false)
    }

    @Test func damageIsSaid() throws {
        let directory = try makeDatabase()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let found = try inspect(directory)
        let path = directory + "/group-0/MANIFEST-\(found.number)"
        let file = try POSIXFileSystem().open(path, .write)
        try file.writeAll([0xff, 0xff], at: 100)
        let damaged = try inspect(directory)
        #expect(damaged.isDamaged && damaged.state == found.state)
        #expect(ManifestText.text(damaged, withRecords: false).contains("\ndamaged: MANIFEST-"))
        #expect(try inspect(path).state == nil)
    }
}
