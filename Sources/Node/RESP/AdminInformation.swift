// What the reporting commands (INFO, ROLE, CONFIG GET, MT.STATUS, MT.TABLES, MT.LEDGER, MT.SCRUB)
// ask of the node. The node's runtime implements it over the replica, the store, the ledger and
// the configuration; the HTTP surface shows the same documents.
import Engine

/// Calls come from a pool thread, never from an event loop: they may take locks and read files.
package protocol AdminInformation: AnyObject, Sendable {
    /// The document of `/api/v1/status`.
    func statusJSON() -> String
    /// The document of `/api/v1/tables`.
    func tablesJSON() -> String
    /// The document of `/api/v1/ledger`: at most `limit` rows, newest first.
    func ledgerJSON(limit: Int) -> String
    /// Starts a scrub of every block; the error says why it cannot.
    func startScrub() throws(EngineError)
    /// Progress and findings of the running or the last scrub, a JSON object.
    func scrubJSON() -> String
    /// Further rows of an INFO section, in order; `section` is in lower case.
    func infoRows(_ section: String) -> [InfoRow]
    /// The node's settings by name, for CONFIG GET.
    func settings() -> [InfoRow]
    /// Where clients reach a member; nil if unknown.
    func clientAddress(of member: MemberID) -> (host: String, port: Int)?
}

/// A line `name:value` of INFO, or a setting.
package struct InfoRow: Sendable, Equatable {
    package var name: String
    package var value: String
    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}
