// TLS between members: 1.3 and nothing else, certificates on both sides, chains verified by the TLS
// library against the cluster's CA alone. Host names are not compared; a member is who its URI name
// says (`martlet://<cluster>/<node>`), which is read in the library's additional-verification hook,
// behind the chain check. (The custom-verification callback would replace the chain check.)
import Engine
import NIOCore
import NIOSSL

struct PeerSecurity: Sendable {
    let client: NIOSSLContext
    let server: NIOSSLContext

    init(_ configuration: PeerTransportConfiguration) throws(PeerTransportError) {
        let chain = try PeerSecurity.certificates(configuration.certificatePath)
        let authority = try PeerSecurity.certificates(configuration.authorityPath)
        try PeerSecurity.check(chain[0], configuration)
        let key: NIOSSLPrivateKey
        do { key = try NIOSSLPrivateKey(file: configuration.keyPath, format: .pem) } catch {
            throw .certificate(
                path: configuration.keyPath,
                reason: "holds no PEM private key (\(describeNetworkError(error))); name the right "
                    + "file under tls.key")
        }
        var server = TLSConfiguration.makeServerConfigurationWithMTLS(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key),
            trustRoots: .certificates(authority))
        PeerSecurity.harden(&server)
        var client = TLSConfiguration.makeClientConfiguration()
        client.certificateChain = chain.map { .certificate($0) }
        client.privateKey = .privateKey(key)
        client.trustRoots = .certificates(authority)
        PeerSecurity.harden(&client)
        do {
            self.client = try NIOSSLContext(configuration: client)
            self.server = try NIOSSLContext(configuration: server)
        } catch {
            throw .certificate(
                path: configuration.certificatePath,
                reason: "does not go with the key in \(configuration.keyPath) "
                    + "(\(describeNetworkError(error))); name the files that belong together "
                    + "under tls.certificate and tls.key")
        }
        if !configuration.peers.isEmpty { try rehearse(configuration) }
    }

    /// As `check`: what peers would refuse. Not for its dates, which say as much of this machine's
    /// clock as of the certificate; both change while the node runs. (The TLS library has one alert
    /// for too early and too late, and looks at the chain before.)
    private func rehearse(_ configuration: PeerTransportConfiguration) throws(PeerTransportError) {
        let said: String?
        do {
            said = try CertificateRehearsal.refusal(client: client, server: server)
        } catch {
            said = describeNetworkError(error)
        }
        guard let said, !said.contains("CERTIFICATE_EXPIRED") else { return }
        var reason = "is not one that this node would take from a peer"
        if said.contains("UNSUPPORTED_CERTIFICATE") {
            reason =
                "is not for both ends of TLS (its extended key usage must name serverAuth and "
                + "clientAuth, or there must be none)"
        } else if said.contains("CERTIFICATE_VERIFY_FAILED") {
            reason =
                "is not signed by a CA in \(configuration.authorityPath); name the files that "
                + "belong together under tls.certificate and tls.ca"
        }
        throw .certificate(
            path: configuration.certificatePath, reason: "\(reason) (TLS says: \(said))")
    }

    private static func harden(_ configuration: inout TLSConfiguration) {
        configuration.minimumTLSVersion = .tlsv13
        configuration.maximumTLSVersion = .tlsv13
        configuration.certificateVerification = .noHostnameVerification
        configuration.shutdownTimeout = .seconds(1)
    }

    private static func certificates(_ path: String) throws(PeerTransportError)
        -> [NIOSSLCertificate]
    {
        let found: [NIOSSLCertificate]
        do { found = try NIOSSLCertificate.fromPEMFile(path) } catch {
            throw .certificate(
                path: path,
                reason: "holds no PEM certificate (\(describeNetworkError(error))); name the right "
                    + "file under tls.certificate or tls.ca")
        }
        guard !found.isEmpty else { throw .certificate(path: path, reason: "holds no certificate") }
        return found
    }

    /// A node with somebody else's certificate would only be refused by everybody: say so at start.
    private static func check(
        _ certificate: NIOSSLCertificate, _ configuration: PeerTransportConfiguration
    ) throws(PeerTransportError) {
        let own: PeerIdentity
        do throws(Refusal) { own = try identity(of: certificate) } catch {
            throw .certificate(path: configuration.certificatePath, reason: error.text)
        }
        guard own == configuration.identity else {
            throw .certificate(
                path: configuration.certificatePath,
                reason: "is the certificate of \(own), this node is \(configuration.identity)")
        }
    }

    /// The member that a verified leaf certificate names: it must hold exactly one URI name.
    static func identity(of certificate: NIOSSLCertificate) throws(Refusal) -> PeerIdentity {
        let uris = certificate._subjectAlternativeNames().filter { $0.nameType == .uri }
        guard uris.count == 1 else {
            throw Refusal(
                .badCertificate,
                "the certificate holds \(uris.count) URI names, it must hold exactly one, "
                    + "\(PeerIdentity.scheme)<cluster>/<node>")
        }
        guard let uri = String(validating: uris[0].contents, as: UTF8.self),
            let identity = PeerIdentity(uri: uri)
        else {
            throw Refusal(
                .badCertificate,
                "the certificate's URI name is not \(PeerIdentity.scheme)<cluster>/<node>")
        }
        return identity
    }
}
