// How the engine asks for order. An implementation gives each proposal a place in the log and, in
// that order, hands committed entries to `Store.apply`. `EmbeddedOrder` is a quorum of one;
// Replication's replica is the other.

package protocol LogOrder: AnyObject {
    /// Puts an entry behind all proposed before. Returns its position; committed comes later, as
    /// the entry's application. Throws if this member may not order entries now.
    func propose(_ kind: EntryKind, _ payload: [UInt8]) throws(EngineError) -> Position
}
