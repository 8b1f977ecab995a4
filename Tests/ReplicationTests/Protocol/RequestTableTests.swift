// Every request leaves the table exactly once, whichever way.
import Engine
import Replication
import Testing

@Suite struct RequestTableTests {
    private let two = MemberID(2)
    private let three = MemberID(3)

    @Test func anAnswerFindsItsQuestionOnce() {
        var table = RequestTable<String>(firstID: 100)
        let id = table.add(to: two, deadline: 50, "a")
        #expect(id == 100)
        #expect(table.answered(id, by: three) == nil)
        #expect(table.answered(id + 1, by: two) == nil)
        #expect(table.answered(id, by: two) == "a")
        #expect(table.answered(id, by: two) == nil)
        #expect(table.isEmpty && table.nextDeadline == nil)
    }

    @Test func deadlinesExpireInOrder() {
        var table = RequestTable<String>(firstID: .max)
        _ = table.add(to: two, deadline: 30, "c")
        _ = table.add(to: two, deadline: 10, "a")
        _ = table.add(to: three, deadline: 20, "b")
        #expect(table.nextDeadline == 10)
        #expect(table.expire(now: 9) == [])
        #expect(table.expire(now: 20) == ["a", "b"])
        #expect(table.nextDeadline == 30)
        #expect(table.expire(now: 100) == ["c"])
    }

    @Test func whatOthersWereAskedEndsSooner() {
        var table = RequestTable<String>(firstID: 1)
        _ = table.add(to: two, deadline: 100, "a")
        _ = table.add(to: three, deadline: 100, "b")
        _ = table.add(to: two, deadline: 5, "c")
        table.hasten(exceptOf: three, deadline: 20)
        #expect(table.expire(now: 10) == ["c"])
        #expect(table.expire(now: 20) == ["a"])
        #expect(table.expire(now: 99) == [])
        #expect(table.expire(now: 100) == ["b"])
        #expect(table.isEmpty)
    }

    @Test func aLostPeerFailsItsRequestsOnly() {
        var table = RequestTable<String>(firstID: 1)
        _ = table.add(to: two, deadline: 30, "a")
        let other = table.add(to: three, deadline: 10, "b")
        _ = table.add(to: two, deadline: 20, "c")
        #expect(table.failAll(of: two) == ["a", "c"])
        #expect(table.cancel(other) == "b")
        #expect(table.cancel(other) == nil)
        _ = table.add(to: two, deadline: 1, "d")
        _ = table.add(to: three, deadline: 1, "e")
        #expect(table.failAll() == ["d", "e"])
    }

    @Test func randomHistoriesMatchASimpleModel() {
        var generator = TestGenerator(11)
        var table = RequestTable<UInt64>(firstID: 1)
        var model: [UInt64: (peer: MemberID, deadline: UInt64)] = [:]
        var now: UInt64 = 0
        for _ in 0..<20_000 {
            let peer = Bool.random(using: &generator) ? two : three
            switch Int.random(in: 0..<100, using: &generator) {
            case 0..<45:
                let deadline = now + UInt64.random(in: 0..<200, using: &generator)
                let next = (table.add(to: peer, deadline: deadline, 0))
                _ = table.cancel(next)
                let id = table.add(to: peer, deadline: deadline, next + 1)
                model[id] = (peer, deadline)
            case 45..<90:
                guard let id = model.keys.min() else { continue }
                let expected = model[id]!.peer == peer ? id : nil
                #expect(table.answered(id, by: peer) == expected)
                if expected != nil { model[id] = nil }
            case 90..<99:
                now += UInt64.random(in: 0..<50, using: &generator)
                let late = model.filter { $0.value.deadline <= now }
                let expected = late.sorted {
                    ($0.value.deadline, $0.key) < ($1.value.deadline, $1.key)
                }
                #expect(table.expire(now: now) == expected.map(\.key))
                for id in late.keys { model[id] = nil }
            default:
                let lost = model.filter { $0.value.peer == peer }.keys.sorted()
                #expect(table.failAll(of: peer) == lost)
                for id in lost { model[id] = nil }
            }
            #expect(table.count == model.count)
            if let next = table.nextDeadline {
                #expect(next <= model.values.map(\.deadline).min()!)
            }
        }
    }
}
