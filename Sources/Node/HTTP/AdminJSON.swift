// The documents of `/api/v1` and of `MT.STATUS`, `MT.TABLES`, `MT.LEDGER`: same bytes on both.
// Field names are fixed; checks from outside rely on them. Keys are base64, digests 32 hex digits.
import Engine
import Foundation
import Replication

package enum AdminJSON {
    package static let ledgerLimit = 1000
    package static let ledgerLimitMax = 100_000

    package static func status(_ status: ReplicaStatus) -> [UInt8] {
        var json = JSONText()
        json.object { json in
            json.field("node", status.node.rawValue)
            json.field("role", status.role)
            json.field("term", status.term.rawValue)
            json.field("leader", status.leader.rawValue)
            json.field("commit", status.commit.rawValue)
            json.field("durable", status.durable.rawValue)
            json.field("applied", status.applied.rawValue)
            json.field("frontier", status.frontier.rawValue)
            json.field("stateRoot", status.stateRoot.description)
            json.name("members")
            json.array(of: status.members) { json, member in
                json.object { json in
                    json.field("id", member.id.rawValue)
                    json.field("role", member.role)
                    json.field("match", member.match.rawValue)
                    json.field("lag", member.lag)
                    json.field("active", member.isActive)
                    json.field("needsTables", member.needsTables)
                }
            }
        }
        return json.bytes
    }

    package static func tables(_ tables: [TableRow]) -> [UInt8] {
        var json = JSONText()
        json.array(of: tables) { json, table in
            json.object { json in
                json.field("id", table.id.description)
                json.field("level", UInt64(table.level))
                json.field("generation", table.generation)
                json.field("digest", table.digest.description)
                json.field("bytes", table.bytes)
                json.field("file", table.file)
                json.field("smallest", base64(table.smallest))
                json.field("largest", base64(table.largest))
            }
        }
        return json.bytes
    }

    package static func ledger(_ rows: [LedgerRow]) -> [UInt8] {
        var json = JSONText()
        json.array(of: rows) { json, row in
            json.object { json in
                json.field("time", row.time)
                json.field("file", row.file)
                json.name("blocks")
                json.array(of: row.blocks) { json, block in json.value(UInt64(block)) }
                json.field("reason", row.reason)
                json.field("source", row.source)
                json.field("peer", row.peer)
                json.field("bytesFetched", row.bytesFetched)
                json.field("duration", row.durationMilliseconds)
                json.field("state", row.state.name)
                json.field("detail", row.detail)
            }
        }
        return json.bytes
    }

    static func base64(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString()
    }
}
