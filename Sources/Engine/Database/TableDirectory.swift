// Every table file that this node can use, by id: those of the manifest, stand-ins, outputs that
// wait for their edit, inputs that other members may still need. Looked up by the owner and by
// threads that serve peers.
import Synchronization

package final class TableDirectory: Sendable {
    private let handles = Mutex<[TableID: TableHandle]>([:])

    package init() {}

    package func handle(_ id: TableID) -> TableHandle? {
        handles.withLock { $0[id] }
    }

    /// Adds or replaces.
    package func set(_ handle: TableHandle) {
        handles.withLock { $0[handle.record.id] = handle }
    }

    @discardableResult
    package func remove(_ id: TableID) -> TableHandle? {
        handles.withLock { $0.removeValue(forKey: id) }
    }

    package func removeAll() {
        // Let go of outside of the lock: files may go with them.
        _ = handles.withLock { handles in
            defer { handles = [:] }
            return handles
        }
    }

    /// In id order.
    package var all: [TableHandle] {
        handles.withLock { Array($0.values) }.sorted { $0.record.id < $1.record.id }
    }
}
