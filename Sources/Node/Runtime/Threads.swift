// Plain threads and the bridge from a synchronous command to asynchronous work.
import Dispatch
import Foundation
import Synchronization

/// Starts a detached thread with a stack for deep work.
@discardableResult
func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> Thread {
    let thread = Thread(block: body)
    thread.name = name
    thread.stackSize = 1 << 20
    thread.start()
    return thread
}

/// Runs `body(0)` … `body(count - 1)` on a thread each and returns when all have returned.
func runThreads(_ count: Int, name: String, _ body: @escaping @Sendable (Int) -> Void) {
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        startThread(name: "\(name)-\(index)") {
            body(index)
            group.leave()
        }
    }
    group.wait()
}

/// Blocks the calling thread, which must not belong to the concurrency runtime, until `body` ends.
func runBlocking<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws
    -> Value
{
    let done = DispatchSemaphore(value: 0)
    let result = ResultBox<Value>()
    Task.detached {
        do {
            let value = try await body()
            result.value.withLock { $0 = .success(value) }
        } catch {
            result.value.withLock { $0 = .failure(error) }
        }
        done.signal()
    }
    done.wait()
    guard let outcome = result.value.withLock({ $0 }) else {
        throw NodeFailure(.software, "a task ended without a result")
    }
    return try outcome.get()
}

private final class ResultBox<Value: Sendable>: Sendable {
    let value = Mutex<Result<Value, any Error>?>(nil)
}
