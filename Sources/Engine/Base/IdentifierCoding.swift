// Identifiers in the formats: 64 bits each. What is above its limit was written by nobody, whatever
// the checksum says of it, and is refused here, so that no arithmetic behind can overflow.

extension ByteReader {
    package mutating func readLogIndex() throws(DecodingError) -> LogIndex {
        let index = LogIndex(try read(UInt64.self))
        guard index < LogIndex.limit else { throw DecodingError("index \(index) is out of range") }
        return index
    }

    package mutating func readTerm() throws(DecodingError) -> Term {
        let term = Term(try read(UInt64.self))
        guard term < Term.limit else { throw DecodingError("term \(term) is out of range") }
        return term
    }

    package mutating func readSequence() throws(DecodingError) -> SequenceNumber {
        let sequence = SequenceNumber(try read(UInt64.self))
        guard sequence <= SequenceNumber.max else {
            throw DecodingError("sequence \(sequence) is above 56 bits")
        }
        return sequence
    }

    package mutating func readPosition() throws(DecodingError) -> Position {
        Position(term: try readTerm(), index: try readLogIndex(), checksum: try readDigest())
    }

    /// Bytes of a table or a file.
    package mutating func readTableBytes() throws(DecodingError) -> UInt64 {
        let count = try read(UInt64.self)
        guard count <= Limits.tableBytes else { throw DecodingError("a table of \(count) bytes") }
        return count
    }
}

extension ByteWriter {
    package mutating func write(_ position: Position) {
        write(position.term.rawValue)
        write(position.index.rawValue)
        write(position.checksum)
    }
}
