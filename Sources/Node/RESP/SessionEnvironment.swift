// What the sessions of all event loops share: the replica, the evaluator, the pool, the settings,
// the register of clients and the counters. Made once by the listener's owner.
import Engine
import NIOCore
import Replication
import Synchronization

package final class SessionEnvironment: Sendable {
    package let service: any ReplicaService
    package let evaluator: Evaluator
    package let settings: RESPSettings
    package let admin: any AdminInformation
    /// Executes a closure soon on a thread that may read from disk and take locks.
    package let runBlocking: @Sendable (@escaping @Sendable () -> Void) -> Void
    package let clients = ClientRegister()
    package let statistics = ClientStatistics()
    package let startedAt: NIODeadline
    /// Memory of commands that are not executed, and of replies that are not taken.
    package let input: ClientMemory
    package let output: ClientMemory
    let relief = ClientRelief()

    /// Also lets `service` evaluate what other members forward.
    package init(
        service: any ReplicaService, evaluator: Evaluator, settings: RESPSettings,
        admin: any AdminInformation,
        runBlocking: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void
    ) {
        self.service = service
        self.evaluator = evaluator
        self.settings = settings
        self.admin = admin
        self.runBlocking = runBlocking
        startedAt = .now()
        input = ClientMemory(limit: settings.inputBytes)
        output = ClientMemory(limit: settings.outputTotalBytes)
        service.setForwardHandler { [statistics, input] request, reply in
            statistics.forwardedHere.add(1)
            // What other members' clients sent counts like what came here.
            let bytes = request.count
            guard !input.isFull else {
                return reply(
                    ForwardCodec.encode(.notEvaluated(reason: "the leader's input is full")))
            }
            input.add(bytes)
            SessionEnvironment.evaluateForwarded(request, by: evaluator) { answer in
                input.add(-bytes)
                reply(answer)
            }
        }
    }

    /// A leader's side of a forwarded request.
    private static func evaluateForwarded(
        _ request: [UInt8], by evaluator: Evaluator, reply: @escaping @Sendable ([UInt8]) -> Void
    ) {
        do throws(DecodingError) {
            let batches = try ForwardCodec.decodeRequest(request)
            evaluator.submit(
                EvaluationRequest(batches: batches) { reply(ForwardCodec.encode($0)) })
        } catch {
            reply(ForwardCodec.encode(.notEvaluated(reason: error.what)))
        }
    }
}

/// A number that any thread may add to.
package struct Counter: ~Copyable, Sendable {
    private let count = Atomic<UInt64>(0)
    package func add(_ amount: Int) { count.add(UInt64(max(amount, 0)), ordering: .relaxed) }
    package func reset() { count.store(0, ordering: .relaxed) }
    package var value: UInt64 { count.load(ordering: .relaxed) }
}

/// Counters since the start, or since CONFIG RESETSTAT.
package final class ClientStatistics: Sendable {
    package let connectionsReceived = Counter()
    package let connectionsRejected = Counter()
    package let commandsProcessed = Counter()
    package let bytesReceived = Counter()
    package let bytesSent = Counter()
    package let keyspaceHits = Counter()
    package let keyspaceMisses = Counter()
    /// Messages sent to the leader, and those evaluated here for others.
    package let forwardedAway = Counter()
    package let forwardedHere = Counter()
    package let uncertainReplies = Counter()
    /// Clients that took nothing of their replies for too long.
    package let slowClientsClosed = Counter()
    /// Clients that held too much while a limit over all was exceeded.
    package let outputLimitClosed = Counter()
    package let inputLimitClosed = Counter()

    package func reset() {
        connectionsReceived.reset()
        connectionsRejected.reset()
        commandsProcessed.reset()
        bytesReceived.reset()
        bytesSent.reset()
        keyspaceHits.reset()
        keyspaceMisses.reset()
        forwardedAway.reset()
        forwardedHere.reset()
        uncertainReplies.reset()
        slowClientsClosed.reset()
        outputLimitClosed.reset()
        inputLimitClosed.reset()
    }
}

/// A connected client as CLIENT LIST shows it. Written by its session, read from anywhere.
package final class ClientRecord: Sendable {
    package struct Fields: Sendable {
        package var name = ""
        package var libraryName = ""
        package var libraryVersion = ""
        package var lastCommand: CommandID?
        package var lastActive: NIODeadline
        package var version = RESPVersion.two
        package var isReadonly = false
        package var queryBytes = 0
    }

    package let id: UInt64
    package let address: String
    package let localAddress: String
    package let connectedAt: NIODeadline
    package let fields: Mutex<Fields>
    /// Replies that the client has not taken.
    package let outputBytes = Atomic<Int>(0)

    init(id: UInt64, address: String, localAddress: String, now: NIODeadline) {
        self.id = id
        self.address = address
        self.localAddress = localAddress
        connectedAt = now
        fields = Mutex(Fields(lastActive: now))
    }

    /// One line of CLIENT LIST, without its end.
    package func line(now: NIODeadline) -> String {
        let fields = fields.withLock { $0 }
        let age = (now - connectedAt).nanoseconds / 1_000_000_000
        let idle = (now - fields.lastActive).nanoseconds / 1_000_000_000
        let command = fields.lastCommand.map { CommandTable.shared[$0].name } ?? "NULL"
        return "id=\(id) addr=\(address) laddr=\(localAddress) fd=-1 name=\(fields.name) "
            + "age=\(max(age, 0)) idle=\(max(idle, 0)) flags=\(fields.isReadonly ? "r" : "N") "
            + "db=0 sub=0 psub=0 multi=-1 qbuf=\(fields.queryBytes) "
            + "omem=\(outputBytes.load(ordering: .relaxed)) cmd=\(command) "
            + "user=default lib-name=\(fields.libraryName) lib-ver=\(fields.libraryVersion) "
            + "resp=\(fields.version.rawValue)"
    }
}

/// All connected clients, by id.
package final class ClientRegister: Sendable {
    private struct Clients {
        var next: UInt64 = 1
        var byID: [UInt64: ClientRecord] = [:]
    }

    private let clients = Mutex(Clients())

    package var count: Int { clients.withLock { $0.byID.count } }

    /// Nil if `limit` clients are connected.
    func add(
        address: String, localAddress: String, now: NIODeadline, limit: Int
    ) -> ClientRecord? {
        clients.withLock { clients in
            guard clients.byID.count < limit else { return nil }
            let record = ClientRecord(
                id: clients.next, address: address, localAddress: localAddress, now: now)
            clients.next += 1
            clients.byID[record.id] = record
            return record
        }
    }

    func remove(_ id: UInt64) { clients.withLock { _ = $0.byID.removeValue(forKey: id) } }

    /// In the order of connecting.
    package func all() -> [ClientRecord] {
        clients.withLock { $0.byID.values.sorted { $0.id < $1.id } }
    }
}
