import Engine
import Foundation
import Node
import Replication
import Testing

@Suite struct AdminJSONTests {
    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test func statusHasTheFixedFields() {
        #expect(
            text(AdminJSON.status(FakeAdminSource.status)) == """
                {"node":2,"role":"follower","term":7,"leader":1,"commit":100,"durable":101,\
                "applied":99,"frontier":64,"stateRoot":"0000000000000002000000000000000a",\
                "members":[{"id":1,"role":"leader","match":101,"lag":0,"active":true,\
                "needsTables":false},{"id":2,"role":"follower","match":100,"lag":1,\
                "active":true,"needsTables":false}]}
                """)
    }

    @Test func tablesHaveTheFixedFields() {
        #expect(
            text(AdminJSON.tables([FakeAdminSource.table])) == """
                [{"id":"0000000000000040-f0","level":0,"generation":3,\
                "digest":"00000000000000010000000000000005","bytes":4096,\
                "file":"group-0/sst/0000000000000040-f0.3.sst","smallest":"YQ==",\
                "largest":"AP8="}]
                """)
        #expect(text(AdminJSON.tables([])) == "[]")
    }

    @Test func ledgerHasTheFixedFields() {
        #expect(
            text(AdminJSON.ledger([FakeAdminSource.row(1)])) == """
                [{"time":1,"file":"group-0/sst/x.sst","blocks":[3,4],"reason":"lost",\
                "source":"replica","peer":3,"bytesFetched":8192,"duration":12,\
                "state":"healed-replica","detail":""}]
                """)
    }

    @Test func documentsAreJSON() throws {
        for bytes in [
            AdminJSON.status(FakeAdminSource.status), AdminJSON.tables([FakeAdminSource.table]),
            AdminJSON.ledger((0..<3).map { FakeAdminSource.row($0) }),
        ] {
            _ = try JSONSerialization.jsonObject(with: Data(bytes))
        }
    }

    @Test func commandLineReadsWhatTheNodeWrites() throws {
        let status = try JSONDecoder().decode(
            StatusDocument.self, from: Data(AdminJSON.status(FakeAdminSource.status)))
        #expect(
            status.text == """
                node 2, follower in term 7, leader: node 1
                commit 100, durable 101, applied 99, frontier 64
                state root 0000000000000002000000000000000a

                member  role      match  lag
                1       leader      101    0
                2       follower    100    1
                """)
        let rows = try JSONDecoder().decode(
            [LedgerDocument].self, from: Data(AdminJSON.ledger([FakeAdminSource.row(1)])))
        #expect(LedgerDocument.text(rows).contains("healed-replica  group-0/sst/x.sst"))
        #expect(LedgerDocument.text([]) == "nothing was ever damaged here")
    }

    @Test func textsAreEscaped() throws {
        let given = "a\"b\\c\n\r\t\u{1}é\u{1F426}"
        var json = JSONText()
        json.array { $0.value(given) }
        let read = try JSONSerialization.jsonObject(with: Data(json.bytes)) as? [String]
        #expect(read == [given])
        #expect(json.text.contains("\\u0001"))
    }

    @Test(
        arguments: [
            (0, "0"), (1, "1"), (-1.5, "-1.5"), (0.001, "0.001"), (0.000_000_4, "0"),
            (0.000_412, "0.000412"), (2.050, "2.05"),
            (1234567.891, "1234567.891"), (0.999_999_9, "1"),
            (123_456_789_012_345.5, "123456789012345.5"), (.infinity, "null"), (.nan, "null"),
            (-0.000_000_1, "0"),
        ] as [(Double, String)])
    func numbers(value: Double, text: String) {
        var json = JSONText()
        json.value(value)
        #expect(json.text == text)
    }
}
