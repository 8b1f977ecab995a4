// Clients that know nothing of logs: each writes or reads one of a few registers, on any node, and
// remembers when it asked and when it was answered. Whether all answers fit together is decided at
// the end by `RegisterHistory`.
import Engine
import Replication

package final class RegisterClients: @unchecked Sendable {
    // Unchecked: everything happens on the simulation's one thread.
    private struct Call {
        var register: Int
        var operation: RegisterOperation
        var process: SimulatedProcess
    }

    private enum Answer {
        case write(ProposalOutcome)
        case read(Result<ReadPermit, ServiceRefusal>)
    }

    private static let registers = 8
    private static let openMax = 40
    private unowned let cluster: SimulatedCluster
    private var random: SeededRandom
    /// Counts beginnings and ends of calls, in the order in which they happen.
    private var clock: UInt64 = 0
    private var nextCall: UInt64 = 1
    private var open: [UInt64: Call] = [:]
    private var answers: [(UInt64, Answer)] = []
    private var histories = Array(repeating: RegisterHistory(), count: RegisterClients.registers)
    private var isRunning = false
    package private(set) var answered = 0

    package init(_ cluster: SimulatedCluster, seed: UInt64) {
        self.cluster = cluster
        random = SeededRandom(seed: seed)
    }

    package func start(clients: Int, pauseMilliseconds: Int = 30) {
        isRunning = true
        for _ in 0..<clients { again(pauseMilliseconds) }
    }

    package func stop() { isRunning = false }

    private func again(_ pause: Int) {
        cluster.perform(after: UInt64(1 + random.below(pause))) { [unowned self] in
            guard isRunning else { return }
            call()
            again(pause)
        }
    }

    private func call() {
        guard open.count < RegisterClients.openMax else { return }
        if random.oneIn(2) { write() } else { read() }
    }

    private func key(_ register: Int) -> [UInt8] { Array("r\(register)".utf8) }

    private func tick() -> UInt64 {
        clock += 1
        return clock
    }

    private func begin(_ kind: RegisterOperation.Kind, on process: SimulatedProcess) -> UInt64 {
        let number = nextCall
        nextCall += 1
        open[number] = Call(
            register: random.below(RegisterClients.registers),
            operation: RegisterOperation(
                kind, kind == .write ? number : nil, began: tick(), ended: nil),
            process: process)
        return number
    }

    private func write() {
        let leaders = cluster.leaders
        guard !leaders.isEmpty else { return }
        let process = leaders[random.below(leaders.count)]
        guard let term = process.replica.evaluatingTerm else { return }
        let number = begin(.write, on: process)
        var batch = WriteBatch()
        batch.put(key(open[number]?.register ?? 0), Array("\(number)".utf8))
        process.replica.propose(batch, term: term) { [unowned self] outcome in
            answers.append((number, .write(outcome)))
        }
    }

    private func read() {
        let running = cluster.running
        guard !running.isEmpty else { return }
        let process = running[random.below(running.count)]
        let number = begin(.read, on: process)
        process.replica.linearizableRead { [unowned self] result in
            answers.append((number, .read(result)))
        }
    }

    /// Takes what the last turn answered.
    package func settle() {
        guard !answers.isEmpty else { return }
        for (number, answer) in answers {
            guard let call = open.removeValue(forKey: number) else { continue }
            switch answer {
            case .write(let outcome): finish(call, outcome)
            case .read(let result): finish(call, result)
            }
        }
        answers.removeAll(keepingCapacity: true)
    }

    private func finish(_ call: Call, _ outcome: ProposalOutcome) {
        var operation = call.operation
        switch outcome {
        case .applied: operation.ended = tick()
        case .unknown: break
        case .notApplied: return
        }
        answered += 1
        histories[call.register].add(operation)
    }

    private func finish(_ call: Call, _ result: Result<ReadPermit, ServiceRefusal>) {
        guard call.process.isAlive, case .success(let permit) = result else { return }
        var operation = call.operation
        do throws(EngineError) {
            let found = try call.process.replica.store.get(
                key(call.register), now: permit.clock, io: .blocking)
            operation.value = found.flatMap { UInt64(String(decoding: $0.value, as: UTF8.self)) }
        } catch {
            return cluster.oracle.judgeRead(error, call.process)
        }
        operation.ended = tick()
        answered += 1
        histories[call.register].add(operation)
    }

    /// Its clients never learn what became of their writes.
    package func processEnded(_ process: SimulatedProcess) {
        for number in open.keys.sorted() where open[number]?.process === process {
            guard let call = open.removeValue(forKey: number) else { continue }
            if call.operation.kind == .write { histories[call.register].add(call.operation) }
        }
    }

    /// After the last answer: every register by itself.
    package func check() {
        for number in open.keys.sorted() {
            guard let call = open.removeValue(forKey: number) else { continue }
            if call.operation.kind == .write { histories[call.register].add(call.operation) }
        }
        for (register, history) in histories.enumerated() {
            if let text = history.violation() {
                cluster.oracle.violation("register \(register) is not linearizable: \(text)")
            }
        }
    }
}
