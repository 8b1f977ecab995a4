// Why a connection could not be made or broke, in an operator's words.
import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

func describeNetworkError(_ error: any Error) -> String {
    if let error = error as? NIOConnectionError { return describe(error) }
    if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
    if case .connectTimeout(let time)? = error as? ChannelError {
        return "no answer within \(time.nanoseconds / 1_000_000) ms"
    }
    let raw = String(describing: error).replacing("\n", with: " ")
    for (mark, text) in tlsErrors where raw.contains(mark) { return text }
    return raw
}

/// A name may have several addresses, each of which fails for a reason of its own.
private func describe(_ error: NIOConnectionError) -> String {
    if error.connectionErrors.isEmpty { return "no address is known for \(error.host)" }
    var reasons: [String] = []
    for failure in error.connectionErrors {
        let reason = describeNetworkError(failure.error)
        if !reasons.contains(reason) { reasons.append(reason) }
    }
    return reasons.joined(separator: "; ")
}

/// Marks in the TLS library's texts, for the usual ways in which TLS between members fails.
private let tlsErrors = [
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the peer presented no certificate"),
    ("CERTIFICATE_REQUIRED", "the peer asks for a certificate and got none"),
    ("CERTIFICATE_VERIFY_FAILED", "the peer's certificate is not signed by the cluster's CA"),
    ("ALERT_UNKNOWN_CA", "the peer does not know the CA of this node's certificate"),
    ("ALERT_CERTIFICATE_UNKNOWN", "the peer does not accept this node's certificate"),
    ("ALERT_BAD_CERTIFICATE", "the peer does not accept this node's certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "this node's certificate has expired"),
    ("UNSUPPORTED_PROTOCOL", "the peer does not speak TLS 1.3"),
    ("ALERT_PROTOCOL_VERSION", "the peer refuses TLS 1.3"),
    ("WRONG_VERSION_NUMBER", "the peer does not speak TLS"),
    ("HTTP_REQUEST", "the peer speaks HTTP, not TLS"),
    ("KEY_VALUES_MISMATCH", "the key does not belong to the certificate"),
    ("EOF during", "the peer closed the connection during the TLS handshake"),
    ("uncleanShutdown", "the peer closed the connection"),
]
