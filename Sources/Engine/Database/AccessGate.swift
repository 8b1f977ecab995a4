// Whether a database still answers. Shut once, for good: by closing, or by a failed sync, after
// which nobody knows what the disk holds until a new open looks. Any thread.
import Synchronization

final class AccessGate: Sendable {
    private let isShut = Atomic<Bool>(false)
    private let reason = Mutex<EngineError?>(nil)

    /// Throws why the gate is shut.
    @inline(__always)
    func check() throws(EngineError) {
        if isShut.load(ordering: .acquiring) { try refuse() }
    }

    private func refuse() throws(EngineError) {
        if let reason = reason.withLock({ $0 }) { throw reason }
    }

    /// The first reason stays. True if this was it.
    @discardableResult
    func shut(_ error: EngineError) -> Bool {
        let isFirst = reason.withLock { reason in
            guard reason == nil else { return false }
            reason = error
            return true
        }
        isShut.store(true, ordering: .releasing)
        return isFirst
    }
}
