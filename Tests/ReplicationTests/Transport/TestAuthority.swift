// Certificates for the transport's tests, made once for each test process by the `openssl` command:
// good ones, and each kind of bad one.
import Engine
import Glibc
import NIOSSL
import Replication

struct TestAuthority: Sendable {
    /// A leaf certificate's files, by the name in `script`.
    struct Leaf: Sendable {
        var certificate: String
        var key: String
    }

    let directory: String

    static let shared = TestAuthority()

    var authority: String { "\(directory)/ca.pem" }
    var otherAuthority: String { "\(directory)/other-ca.pem" }
    /// It and the other.
    var bothAuthorities: String { "\(directory)/both.pem" }

    func leaf(_ name: String) -> Leaf {
        Leaf(certificate: "\(directory)/\(name).pem", key: "\(directory)/\(name)-key.pem")
    }

    private init() {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { brokenInvariant("no temporary directory") }
        directory = String(cString: made)
        temporaryDirectory = directory
        let script = """
            cd \(directory) && cat > req.cnf <<'END'
            [req]
            distinguished_name = name
            prompt = no
            [name]
            CN = test
            END
            run() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
              -days 36500 -config req.cnf "$@" >>log 2>&1 || exit 1; }
            ca() { run -keyout $1-key.pem -out $1.pem -subj "/CN=$1" \
              -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign; }
            leaf() { run -keyout $1-key.pem -out $1.pem -subj "/CN=$1" -CA $2.pem -CAkey $2-key.pem \
              -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=$3" \
              -addext extendedKeyUsage=${4:-serverAuth,clientAuth}; }
            ca ca; ca other-ca
            cat ca.pem other-ca.pem > both.pem
            for k in 1 2 3 4; do leaf alpha-$k ca "URI:martlet://alpha/$k,DNS:localhost"; done
            leaf beta-2 ca URI:martlet://beta/2
            leaf stranger-2 other-ca URI:martlet://alpha/2
            leaf serving-2 ca URI:martlet://alpha/2 serverAuth
            leaf calling-2 ca URI:martlet://alpha/2 clientAuth
            run -keyout twin-key.pem -out twin.pem -subj /CN=ca \
              -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
            leaf twin-2 twin URI:martlet://alpha/2
            leaf nameless ca DNS:localhost
            leaf twice ca URI:martlet://alpha/2,URI:martlet://alpha/3
            leaf odd ca URI:martlet://alpha/02
            """
        guard shell(script) == 0 else {
            brokenInvariant("the openssl command failed, see \(directory)/log")
        }
        atexit { shell("rm -rf \(temporaryDirectory)") }
    }
}

/// Written once, before the exit handler that reads it is registered.
nonisolated(unsafe) private var temporaryDirectory = ""

@discardableResult
private func shell(_ script: String) -> Int32 {
    var child: pid_t = 0
    var words: [UnsafeMutablePointer<CChar>?] = [strdup("sh"), strdup("-c"), strdup(script), nil]
    defer { for word in words { free(word) } }
    guard posix_spawnp(&child, "sh", nil, nil, &words, environ) == 0 else { return -1 }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return status
}
