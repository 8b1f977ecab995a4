// Keys, key derivation and sealed messages.
import Engine
import Testing

@Suite struct CipherTests {
    private static let salt: @Sendable () -> UInt64 = { 0x0102_0304_0506_0708 }

    private func cipher() throws -> FileCipher {
        let ring = KeyRing(try testKeys(1), random: Self.salt)
        return try #require(ring.makeCipher(.table))
    }

    private func seal(_ cipher: FileCipher, _ nonce: CipherNonce, head: [UInt8], _ body: [UInt8])
        -> (head: [UInt8], body: [UInt8], tag: [UInt8])
    {
        var (head, out) = (head, body)
        var tag = [UInt8](repeating: 0, count: FileCipher.tagBytes)
        head.withUnsafeMutableBytes { head in
            out.withUnsafeMutableBytes { out in
                tag.withUnsafeMutableBytes { tag in
                    guard let tag = tag.baseAddress else { return }
                    [UInt8]("fields".utf8).withUnsafeBytes {
                        cipher.seal(
                            nonce, authenticated: $0, head: head, UnsafeRawBufferPointer(out),
                            to: out.baseAddress, tag: tag)
                    }
                }
            }
        }
        return (head, out, tag)
    }

    /// Nil if the message is not authentic.
    private func open(
        _ cipher: FileCipher, _ nonce: CipherNonce, _ fields: String,
        _ sealed: (head: [UInt8], body: [UInt8], tag: [UInt8])
    ) -> [UInt8]? {
        var (head, body, tag) = sealed
        let isAuthentic = head.withUnsafeMutableBytes { head in
            body.withUnsafeMutableBytes { body in
                tag.withUnsafeBytes { tag -> Bool in
                    guard let tag = tag.baseAddress else { return false }
                    return [UInt8](fields.utf8).withUnsafeBytes {
                        cipher.open(
                            nonce, authenticated: $0, head: head, UnsafeRawBufferPointer(body),
                            to: body.baseAddress, tag: tag)
                    }
                }
            }
        }
        return isAuthentic ? head + body : nil
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
    }

    /// Computed with another implementation: HKDF-SHA256 (RFC 5869), then AES-256-GCM.
    @Test func goldenVector() throws {
        let cipher = try cipher()
        #expect(cipher.header.check.description == "d916cb11cb78c9c7d372738379025914")
        let sealed = seal(
            cipher, CipherNonce(high: 7, low: 9), head: Array("0123456789abcdef".utf8),
            Array("martlets never land".utf8))
        #expect(
            hex(sealed.head + sealed.body)
                == "ee0a6e59eb15c89d96a546c86db344d7a3fb3165731f2742bef7869d0419ced0716eb7")
        #expect(hex(sealed.tag) == "e3d65d9e12f06892172c32ccda8c7c74")
    }

    /// Short messages are sealed another way than long ones, and opened the same way.
    @Test func everyLengthOpens() throws {
        let cipher = try cipher()
        var random = SeededRandom(seed: 3)
        for length in Array(0...1100) + [4096, 4097] {
            let body = (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let nonce = CipherNonce(high: UInt32(length), low: random.next())
            let sealed = seal(cipher, nonce, head: [], body)
            if open(cipher, nonce, "fields", sealed) != body { Issue.record("\(length)") }
            var changed = sealed
            changed.tag[length % 16] ^= 1
            if open(cipher, nonce, "fields", changed) != nil { Issue.record("\(length)") }
        }
    }

    /// The same message as a head and a body takes the long way: one result.
    @Test func bothWaysGiveTheSame() throws {
        let cipher = try cipher()
        let nonce = CipherNonce(high: 7, low: 9)
        let text = Array("martlets never land, and nobody ever saw one resting".utf8)
        let short = seal(cipher, nonce, head: [], text)
        let long = seal(cipher, nonce, head: Array(text.prefix(16)), Array(text.dropFirst(16)))
        #expect(short.body == long.head + long.body && short.tag == long.tag)
    }

    @Test func whatIsChangedDoesNotOpen() throws {
        let cipher = try cipher()
        let nonce = CipherNonce(high: 1, low: 2)
        let good = seal(cipher, nonce, head: [1, 2, 3, 4], [5, 6, 7, 8, 9])
        for _ in 0..<2 { #expect(open(cipher, nonce, "fields", good) == Array(1...9)) }
        #expect(open(cipher, nonce, "field5", good) == nil)
        #expect(open(cipher, CipherNonce(high: 1, low: 3), "fields", good) == nil)
        #expect(open(cipher, CipherNonce(high: 0, low: 2), "fields", good) == nil)
        var head = good
        head.head[3] ^= 1
        var body = good
        body.body[0] ^= 0x80
        var tag = good
        tag.tag[15] ^= 1
        for bad in [head, body, tag] { #expect(open(cipher, nonce, "fields", bad) == nil) }
        let other = KeyRing(try testKeys(2), random: Self.salt).makeCipher(.table)
        #expect(open(try #require(other), nonce, "fields", good) == nil)
        #expect(open(cipher, nonce, "fields", good) == Array(1...9), "a failure leaves a trace")
    }

    @Test func purposeSaltAndKeyMakeTheKey() throws {
        let ring = KeyRing(try testKeys(1), random: seededNumbers(1))
        let fixed = KeyRing(try testKeys(1), random: Self.salt)
        let checks = [
            ring.makeCipher(.table), ring.makeCipher(.table), fixed.makeCipher(.table),
            fixed.makeCipher(.log), KeyRing(try testKeys(2), random: Self.salt).makeCipher(.table),
        ].map { $0?.header.check }
        #expect(Set(checks).count == checks.count)
        #expect(KeyRing(try testKeys(0, 1)).makeCipher(.table) == nil)
        #expect(KeyRing.plain.makeCipher(.table) == nil)
    }

    @Test func aWrongKeyIsTold() throws {
        let header = try cipher().header
        func find(_ ring: KeyRing) throws -> FileCipher {
            try ring.cipher(header, .table, path: "a.sst")
        }
        let right = KeyRing(try testKeys(3, 1))
        #expect(try find(right).header == header)
        for (ring, missing) in [
            (KeyRing(try testKeys(2)), true), (KeyRing.plain, true),
            (KeyRing(try EncryptionKeys(current: 1, keys: [1: testKey(9)])), false),
        ] {
            let error = #expect(throws: EngineError.self) { _ = try find(ring) }
            guard case .wrongKey(1, "a.sst", missing)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    @Test func keysAreChecked() throws {
        #expect(throws: EngineError.self) { try EncryptionKey([UInt8](repeating: 0, count: 31)) }
        #expect(throws: EngineError.self) { try EncryptionKeys(current: 1, keys: [:]) }
        let key = try testKey(7)
        #expect(throws: EngineError.self) { try EncryptionKeys(current: 0, keys: [0: key]) }
        #expect("\(key)" == "an encryption key")
        // Nor in what a debugger or a careless log line makes of whatever holds it.
        let keys = try EncryptionKeys(current: 1, keys: [1: testKey(200)])
        var dumped = ""
        dump(keys, to: &dumped)
        for text in [dumped, "\(keys)", String(reflecting: keys)] {
            #expect(!text.contains("200") && !text.contains("201"), "\(text)")
        }
    }

    /// One writes, the others read what was written before.
    @Test func threadsShareAFile() throws {
        let cipher = try cipher()
        @Sendable func body(_ number: Int) -> [UInt8] {
            [UInt8](repeating: UInt8(number % 256), count: 100)
        }
        let sealed = (0..<400).map { number in
            seal(cipher, CipherNonce(high: 1, low: UInt64(number)), head: [], body(number))
        }
        runOnThreads(4) { thread in
            for number in 0..<400 {
                let nonce = CipherNonce(high: 1, low: UInt64(number))
                if open(cipher, nonce, "fields", sealed[number]) != body(number) {
                    Issue.record("thread \(thread), message \(number)")
                }
                guard thread == 0 else { continue }
                let own = CipherNonce(high: 2, low: UInt64(number))
                let more = seal(cipher, own, head: [], body(number))
                if open(cipher, own, "fields", more) != body(number) { Issue.record("\(number)") }
            }
        }
    }
}
