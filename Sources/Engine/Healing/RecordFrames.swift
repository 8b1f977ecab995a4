// The frame of records in the files `hints` and `ledger`: u32 length, u32 crc32c of the body, body.
// The bytes may be damaged: lengths are bounded, a record with a wrong checksum is passed over, and
// reading ends where a length cannot be believed.

enum RecordFrames {
    static let headBytes = 8
    /// Either file is written anew long before.
    static let fileBytesMax: UInt64 = 64 << 20

    static func framed(_ body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: headBytes + body.count)
        writer.write(UInt32(body.count))
        writer.write(Checksum.crc32c(body))
        writer.write(raw: body)
        return writer.bytes
    }

    /// As `read(_:limit:)`, of a file, of which no more than `fileBytesMax` are read: what is
    /// behind them counts as damage. `bytes` is how many were read.
    static func read(
        _ fileSystem: any FileSystem, _ path: String, limit: Int,
        visit: (inout ByteReader) throws(DecodingError) -> Void
    ) -> (damage: FileDamage?, bytes: UInt64) {
        do throws(FileError) {
            let file = try fileSystem.open(path, .read)
            let size = try file.size()
            let bytes = try file.readBytes(at: 0, count: Int(min(size, fileBytesMax)))
            var damage = read(bytes, limit: limit, visit: visit)
            if damage == nil, size > fileBytesMax {
                damage = FileDamage(at: fileBytesMax, "nothing is read from there on")
            }
            return (damage, UInt64(bytes.count))
        } catch {
            return (FileDamage(error.description), 0)
        }
    }

    /// Calls `visit` for each sound body of at most `limit` bytes. Returns what is wrong with the
    /// first frame that is unsound, or whose body `visit` throws at.
    private static func read(
        _ bytes: [UInt8], limit: Int, visit: (inout ByteReader) throws(DecodingError) -> Void
    ) -> FileDamage? {
        bytes.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer)
            var first: FileDamage?
            while !reader.isAtEnd {
                let start = UInt64(reader.offset)
                func note(_ reason: String) {
                    if first == nil { first = FileDamage(at: start, "a record: \(reason)") }
                }
                do throws(DecodingError) {
                    let body = try next(&reader, limit: limit)
                    guard var body else {
                        note("its checksum is wrong")
                        continue
                    }
                    do throws(DecodingError) { try visit(&body) } catch { note("\(error)") }
                } catch {
                    note("\(error)")
                    break
                }
            }
            return first
        }
    }

    /// The next body; nil if its checksum is wrong.
    private static func next(_ reader: inout ByteReader, limit: Int) throws(DecodingError)
        -> ByteReader?
    {
        let length = Int(try reader.read(UInt32.self))
        let checksum = try reader.read(UInt32.self)
        guard length <= limit else { throw DecodingError("it is too long") }
        let body = try reader.readBytes(length)
        return Checksum.crc32c(body) == checksum ? ByteReader(body) : nil
    }
}
