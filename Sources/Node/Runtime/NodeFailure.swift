// Why a command ended badly: one line for people, one exit code for scripts (those of sysexits.h).
// All that ends the process goes through here, so that no raw Swift error reaches a terminal.
import Engine
import Glibc
import NIOCore
import Replication

package struct NodeFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Kind: Int32, Sendable {
        /// Wrong flags or arguments.
        case usage = 64
        /// A check that was asked for found damage.
        case damage = 65
        /// A file that was named does not exist.
        case noInput = 66
        /// Nobody answers, or a port is taken.
        case unavailable = 69
        /// What nobody foresaw.
        case software = 70
        /// The system refused: no permission, no memory, no process.
        case system = 71
        /// A disk failed or is full.
        case storage = 74
        /// Somebody else has the directory; try again later.
        case inUse = 75
        /// A certificate or a key is wrong, or the directory belongs to another node.
        case identity = 77
        case configuration = 78
    }

    package var kind: Kind
    package var message: String

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var exitCode: Int32 { kind.rawValue }
    package var description: String { message }
}

extension NodeFailure {
    /// Gives any error its exit code and its line.
    package init(classifying error: any Error) {
        switch error {
        case let failure as NodeFailure: self = failure
        case let error as ConfigurationError: self.init(.configuration, error.description)
        case let error as EngineError: self.init(engine: error)
        case let error as FileError: self.init(file: error)
        case let error as PeerTransportError: self.init(peers: error)
        case let error as IOError:
            self.init(.system, "\(error)")
        default: self.init(.software, "\(error)")
        }
    }

    private init(engine error: EngineError) {
        switch error {
        case .locked: self.init(.inUse, error.description)
        case .identity, .wrongKey(_, _, isMissing: false):
            self.init(.identity, error.description)
        case .wrongKey(_, _, isMissing: true): self.init(.configuration, error.description)
        case .file(let file): self.init(file: file)
        case .poisoned, .corrupt, .blockLost, .tableLost, .logHole, .lowSpace:
            self.init(.storage, error.description)
        case .invalid, .limit, .mergeOperatorUnknown, .historyGone, .changesGone:
            self.init(.usage, error.description)
        case .wouldBlock, .logTrimmed, .busy, .closed, .conflict:
            self.init(.software, error.description)
        }
    }

    private init(peers error: PeerTransportError) {
        switch error {
        case .configuration: self.init(.configuration, error.description)
        case .certificate: self.init(.identity, error.description)
        case .bind: self.init(.unavailable, error.description)
        case .stopped: self.init(.software, error.description)
        }
    }

    private init(file error: FileError) {
        if error.isNoSpace {
            self.init(.storage, "\(error); free space there and start again")
        } else if error.code == ENOENT {
            self.init(.noInput, error.description)
        } else if error.code == EIO {
            self.init(.storage, error.description)
        } else {
            self.init(.system, error.description)
        }
    }

    /// A listener that could not be opened: names the setting to change.
    package init(binding setting: String, host: String, port: Int, _ error: any Error) {
        let code = (error as? IOError)?.errnoCode ?? 0
        let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        switch code {
        case EADDRINUSE:
            self.init(
                .unavailable,
                "\(setting): \(place) is in use by another process; stop it or choose another port")
        case EACCES:
            self.init(
                .unavailable,
                "\(setting): no permission to listen on \(place); ports below 1024"
                    + " belong to root")
        case EADDRNOTAVAIL:
            self.init(.unavailable, "\(setting): this machine has no address \(host)")
        default:
            self.init(.unavailable, "\(setting): cannot listen on \(place): \(error)")
        }
    }
}
