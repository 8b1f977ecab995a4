// The node's data directory, locked, with the keys of its files. Opened before anything else: a
// second process on it is told so, whatever ports it was given.
import Engine
import Logging
import Synchronization

package final class DirectoryComponent: NodeComponent {
    package let name = "data directory"
    private let configuration: NodeConfiguration
    private let logger: Logger
    private let opened = Mutex<DataDirectory?>(nil)

    package init(_ configuration: NodeConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Nil before the start and after the stop.
    package var directory: DataDirectory? { opened.withLock { $0 } }

    package func start() async throws {
        let directory = try open()
        for note in directory.notes { logger.warning("\(note)") }
        opened.withLock { $0 = directory }
    }

    /// Lets others have the directory.
    package func stop() async { opened.withLock { $0 = nil } }

    private func open() throws -> DataDirectory {
        let keys = KeyRing(try NodeKeys.load(configuration.encryption))
        let identity = NodeIdentity(cluster: configuration.clusterID, node: configuration.nodeID)
        do throws(EngineError) {
            return try DataDirectory.open(
                POSIXFileSystem(), path: configuration.dataDirectory, wanted: identity,
                fallback: identity, isAlone: !configuration.isCluster,
                rejoins: configuration.isCluster && configuration.rejoins, keys: keys)
        } catch {
            guard case .file(let cause) = error else { throw error }
            throw NodeFailure(.storage, "data.directory: \(cause)")
        }
    }
}
