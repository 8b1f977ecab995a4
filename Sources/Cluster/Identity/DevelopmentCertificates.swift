// Certificates for a cluster on one machine or in a lab: a CA of its own and one certificate for
// each node, made by the `openssl` command. What exists is kept, so a directory can be used again
// and nodes can be added. Used by `martlet dev`; production clusters bring their own certificates.
//
//   ca.pem, ca-key.pem                 EC P-256, 10 years
//   node-K.pem, node-K-key.pem         EC P-256, 825 days, for servers and clients, named
//                                      martlet://<cluster>/<K>, localhost, 127.0.0.1 and ::1
import Engine
import Replication

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package enum DevelopmentCertificateError: Error, Sendable, Hashable, CustomStringConvertible {
    case invalid(String)
    /// The `openssl` command is not installed.
    case opensslMissing
    case opensslFailed(step: String, output: String)
    case file(FileError)
    /// Files of an earlier run that cannot be used again.
    case unusable(path: String, reason: String)

    package var description: String {
        switch self {
        case .invalid(let reason): return reason
        case .opensslMissing:
            return "the openssl command is not installed: it makes the development certificates "
                + "(Debian and Ubuntu: apt-get install openssl)"
        case .opensslFailed(let step, let output): return "openssl failed to \(step): \(output)"
        case .file(let error): return error.description
        case .unusable(let path, let reason):
            return "\(path): \(reason); remove the directory's .pem files to make new ones"
        }
    }
}

package struct DevelopmentCertificates: Sendable {
    /// Paths that a node's configuration names.
    package struct NodeFiles: Sendable, Hashable {
        package var certificate: String
        package var key: String
        package var authority: String
    }

    package let directory: String
    package let cluster: String
    private let openssl: OpenSSLCommand

    /// Makes what is missing in `directory`, which is created if need be.
    package static func make(
        directory: String, cluster: String, nodes: [MemberID],
        openssl: OpenSSLCommand = OpenSSLCommand()
    ) throws(DevelopmentCertificateError) -> DevelopmentCertificates {
        guard PeerIdentity.isValid(cluster: cluster) else {
            throw .invalid("\"\(cluster)\" cannot be a cluster's name")
        }
        guard !nodes.contains(.none) else { throw .invalid("a node id must not be 0") }
        if mkdir(directory, 0o755) != 0, errno != EEXIST {
            throw .file(FileError(operation: "mkdir", path: directory, code: errno))
        }
        let made = DevelopmentCertificates(
            directory: directory, cluster: cluster, openssl: openssl)
        try made.makeAuthority()
        for node in nodes { try made.makeNode(node) }
        return made
    }

    private init(directory: String, cluster: String, openssl: OpenSSLCommand) {
        self.directory = directory
        self.cluster = cluster
        self.openssl = openssl
    }

    package func files(of node: MemberID) -> NodeFiles {
        NodeFiles(
            certificate: "\(directory)/node-\(node).pem", key: "\(directory)/node-\(node)-key.pem",
            authority: authority)
    }

    private var authority: String { "\(directory)/ca.pem" }
    private var authorityKey: String { "\(directory)/ca-key.pem" }

    // MARK: Authority

    private func makeAuthority() throws(DevelopmentCertificateError) {
        if try existsWhole(certificate: authority, key: authorityKey) { return }
        try withWorkFiles(["ca.cnf"]) { (work) throws(DevelopmentCertificateError) in
            try write(authorityConfiguration, to: work[0])
            try makeKey(authorityKey)
            try install(authority) { (path) throws(DevelopmentCertificateError) in
                try openssl.run(
                    "make the CA",
                    [
                        "req", "-x509", "-new", "-sha256", "-days", "3650", "-config", work[0],
                        "-set_serial", serial(), "-key", authorityKey, "-out", path,
                    ])
            }
        }
    }

    private var authorityConfiguration: String {
        """
        [req]
        distinguished_name = name
        x509_extensions = ca
        prompt = no
        [name]
        CN = Martlet development CA of \(cluster)
        [ca]
        basicConstraints = critical, CA:TRUE, pathlen:0
        keyUsage = critical, keyCertSign, cRLSign
        subjectKeyIdentifier = hash

        """
    }

    // MARK: Nodes

    private func makeNode(_ node: MemberID) throws(DevelopmentCertificateError) {
        let files = files(of: node)
        if try existsWhole(certificate: files.certificate, key: files.key) {
            return try check(files, node)
        }
        let stem = "node-\(node)"
        try withWorkFiles(["\(stem).cnf", "\(stem).csr"]) {
            (work) throws(DevelopmentCertificateError) in
            try write(nodeConfiguration(node), to: work[0])
            try makeKey(files.key)
            try openssl.run(
                "make a request for node \(node)",
                ["req", "-new", "-config", work[0], "-key", files.key, "-out", work[1]])
            try install(files.certificate) { (path) throws(DevelopmentCertificateError) in
                try openssl.run(
                    "sign the certificate of node \(node)",
                    [
                        "x509", "-req", "-sha256", "-days", "825", "-in", work[1],
                        "-CA", authority, "-CAkey", authorityKey, "-set_serial", serial(),
                        "-extfile", work[0], "-extensions", "node", "-out", path,
                    ])
            }
        }
    }

    private func nodeConfiguration(_ node: MemberID) -> String {
        """
        [req]
        distinguished_name = name
        prompt = no
        [name]
        CN = node \(node) of \(cluster)
        [node]
        basicConstraints = critical, CA:FALSE
        keyUsage = critical, digitalSignature
        extendedKeyUsage = serverAuth, clientAuth
        subjectKeyIdentifier = hash
        authorityKeyIdentifier = keyid
        subjectAltName = @names
        [names]
        URI.1 = \(PeerIdentity(cluster: cluster, node: node))
        DNS.1 = localhost
        IP.1 = 127.0.0.1
        IP.2 = ::1

        """
    }

    /// A kept certificate must be signed by the kept CA, valid tomorrow, and of this node.
    private func check(_ files: NodeFiles, _ node: MemberID) throws(DevelopmentCertificateError) {
        do throws(DevelopmentCertificateError) {
            try openssl.run("verify", ["verify", "-CAfile", authority, files.certificate])
            try openssl.run(
                "check the dates",
                ["x509", "-in", files.certificate, "-noout", "-checkend", "86400"])
        } catch {
            guard case .opensslFailed = error else { throw error }
            throw .unusable(
                path: files.certificate,
                reason: "is not signed by \(authority), or has expired")
        }
        let names = try openssl.run(
            "read the names",
            ["x509", "-in", files.certificate, "-noout", "-ext", "subjectAltName"])
        let identity = PeerIdentity(cluster: cluster, node: node)
        let found = names.split { $0 == "," || $0.isWhitespace }
        guard found.contains("URI:\(identity)") else {
            throw .unusable(
                path: files.certificate, reason: "is not the certificate of \(identity)")
        }
    }

    // MARK: Files

    /// The key is written before the certificate is put in place, so a certificate without its key
    /// was damaged, and a key alone is what a crash leaves: it is used again.
    private func existsWhole(certificate: String, key: String)
        throws(DevelopmentCertificateError) -> Bool
    {
        guard access(certificate, F_OK) == 0 else { return false }
        guard access(key, F_OK) == 0 else {
            throw .unusable(path: certificate, reason: "its key \(key) is missing")
        }
        return true
    }

    private func makeKey(_ path: String) throws(DevelopmentCertificateError) {
        if access(path, F_OK) == 0 { return }
        try install(path) { (temporary) throws(DevelopmentCertificateError) in
            // Made here so that nobody else can read it at any time.
            let descriptor = open(temporary, O_CREAT | O_EXCL | O_WRONLY, 0o600)
            guard descriptor >= 0 else {
                throw .file(FileError(operation: "create", path: temporary, code: errno))
            }
            close(descriptor)
            try openssl.run(
                "make a key",
                [
                    "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                    temporary,
                ])
            guard chmod(temporary, 0o600) == 0 else {
                throw .file(FileError(operation: "chmod", path: temporary, code: errno))
            }
        }
    }

    /// Lets `body` write a temporary file that then gets its name: never half a certificate.
    private func install(
        _ path: String, _ body: (String) throws(DevelopmentCertificateError) -> Void
    ) throws(DevelopmentCertificateError) {
        let temporary = path + ".tmp"
        unlink(temporary)
        do throws(DevelopmentCertificateError) { try body(temporary) } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            throw .file(FileError(operation: "rename", path: temporary, code: errno))
        }
    }

    private func withWorkFiles(
        _ names: [String], _ body: ([String]) throws(DevelopmentCertificateError) -> Void
    ) throws(DevelopmentCertificateError) {
        let paths = names.map { "\(directory)/\($0)" }
        defer { for path in paths { unlink(path) } }
        try body(paths)
    }

    private func write(_ text: String, to path: String) throws(DevelopmentCertificateError) {
        guard let file = fopen(path, "w") else {
            throw .file(FileError(operation: "create", path: path, code: errno))
        }
        let bytes = [UInt8](text.utf8)
        let written = fwrite(bytes, 1, bytes.count, file)
        guard fclose(file) == 0, written == bytes.count else {
            throw .file(FileError(operation: "write", path: path, code: errno))
        }
    }

    /// A positive random number of 63 bits: two CAs of the same name must not give the same serial.
    private func serial() -> String {
        "0x" + hex16(UInt64.random(in: 1 << 62..<1 << 63))
    }
}
