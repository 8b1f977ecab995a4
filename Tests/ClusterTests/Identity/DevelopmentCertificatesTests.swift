// The certificates of `martlet dev`: made once, kept, added to, and never silently wrong.
import Cluster
import Engine
import Glibc
import Testing

@Suite struct DevelopmentCertificatesTests {
    private let openssl = OpenSSLCommand()

    private func withDirectory(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        let parent = String(cString: try #require(mkdtemp(&template)))
        defer { removeAll(parent) }
        try body("\(parent)/tls")
    }

    private func removeAll(_ parent: String) {
        for name in names("\(parent)/tls") { unlink("\(parent)/tls/\(name)") }
        rmdir("\(parent)/tls")
        rmdir(parent)
    }

    private func names(_ directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private func read(_ path: String) throws -> [UInt8] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        return Array(bytes[..<fread(&bytes, 1, bytes.count, file)])
    }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
    }

    @Test func everyNodeGetsWhatItNeeds() throws {
        try withDirectory { directory in
            let made = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1), MemberID(2)])
            #expect(
                names(directory) == [
                    "ca-key.pem", "ca.pem", "node-1-key.pem", "node-1.pem", "node-2-key.pem",
                    "node-2.pem",
                ])
            let files = made.files(of: MemberID(2))
            #expect(files.authority == "\(directory)/ca.pem")
            #expect(mode(files.key) == 0o600 && mode("\(directory)/ca-key.pem") == 0o600)
            try openssl.run("verify", ["verify", "-CAfile", files.authority, files.certificate])
            let text = try openssl.run(
                "show", ["x509", "-in", files.certificate, "-noout", "-text"])
            for part in [
                "URI:martlet://lab/2", "DNS:localhost", "IP Address:127.0.0.1", "CA:FALSE",
                "prime256v1", "TLS Web Server Authentication", "TLS Web Client Authentication",
            ] {
                #expect(text.contains(part), "\(part)")
            }
            #expect(text.split(separator: "URI:").count == 2)
        }
    }

    @Test func whatExistsIsKept() throws {
        try withDirectory { directory in
            let first = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1)])
            let paths = ["\(directory)/ca.pem", first.files(of: MemberID(1)).certificate]
            let before = try paths.map(read)
            let second = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1), MemberID(2)])
            #expect(try paths.map(read) == before)
            try openssl.run(
                "verify",
                ["verify", "-CAfile", paths[0], second.files(of: MemberID(2)).certificate])
        }
    }

    @Test func aCrashInBetweenIsMadeGood() throws {
        try withDirectory { directory in
            let made = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1)])
            let files = made.files(of: MemberID(1))
            // Keys come first, so a crash leaves keys without certificates.
            unlink(files.certificate)
            let key = try read(files.key)
            _ = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1)])
            #expect(try read(files.key) == key)
            try openssl.run("verify", ["verify", "-CAfile", files.authority, files.certificate])
        }
    }

    @Test func filesOfSomethingElseAreNotUsed() throws {
        try withDirectory { directory in
            let made = try DevelopmentCertificates.make(
                directory: directory, cluster: "lab", nodes: [MemberID(1), MemberID(2)])
            func reason(_ cluster: String) -> String? {
                do throws(DevelopmentCertificateError) {
                    _ = try DevelopmentCertificates.make(
                        directory: directory, cluster: cluster, nodes: [MemberID(1)])
                    return nil
                } catch { return error.description }
            }
            #expect(
                reason("other")?.contains("is not the certificate of martlet://other/1") == true)
            let one = made.files(of: MemberID(1)).certificate
            rename(made.files(of: MemberID(2)).certificate, one)
            #expect(reason("lab")?.contains("is not the certificate of martlet://lab/1") == true)
            unlink("\(directory)/ca-key.pem")
            #expect(reason("lab")?.contains("ca-key.pem is missing") == true)
            // A new CA does not vouch for what the old one signed.
            unlink("\(directory)/ca.pem")
            #expect(reason("lab")?.contains("is not signed by") == true)
        }
    }

    @Test func aMissingCommandIsNamed() throws {
        try withDirectory { directory in
            #expect(throws: DevelopmentCertificateError.opensslMissing) {
                _ = try DevelopmentCertificates.make(
                    directory: directory, cluster: "lab", nodes: [MemberID(1)],
                    openssl: OpenSSLCommand(name: "no-such-openssl"))
            }
            #expect(names(directory).isEmpty)
            #expect("\(DevelopmentCertificateError.opensslMissing)".contains("apt-get install"))
        }
    }

    @Test func badNamesAreRefused() throws {
        try withDirectory { directory in
            for (cluster, node) in [("la/b", 1), ("", 1), ("lab", 0)] as [(String, UInt64)] {
                #expect(throws: DevelopmentCertificateError.self) {
                    _ = try DevelopmentCertificates.make(
                        directory: directory, cluster: cluster, nodes: [MemberID(node)])
                }
            }
        }
    }
}
