import Node
import Testing

@Suite struct RateScheduleTests {
    private func dueTimes(_ schedule: RateSchedule) -> [UInt64] {
        var schedule = schedule
        var times: [UInt64] = []
        while let due = schedule.take(at: .max) { times.append(due) }
        #expect(schedule.left == 0 && schedule.next == nil)
        return times
    }

    @Test func requestsComeDueAtTheRateUntilTheEnd() {
        let schedule = RateSchedule(start: 1000, perSecond: 4, seconds: 1)
        #expect(dueTimes(schedule) == [1000, 250_001_000, 500_001_000, 750_001_000])
        #expect(dueTimes(RateSchedule(start: 0, perSecond: 3, seconds: 1)).count == 3)
        #expect(dueTimes(RateSchedule(start: 0, perSecond: 10_000, seconds: 2)).count == 20_000)
    }

    @Test func nothingIsTakenBeforeItIsDue() {
        var schedule = RateSchedule(start: 1000, perSecond: 1000, seconds: 1)
        #expect(schedule.take(at: 999) == nil)
        #expect(schedule.take(at: 1000) == 1000)
        #expect(schedule.take(at: 1000) == nil)
        #expect(schedule.next == 1_001_000)
        // A stall of half a second is made up for, each request with the time when it was due.
        var late: [UInt64] = []
        while let due = schedule.take(at: 500_001_000) { late.append(due) }
        #expect(late.count == 500 && late.first == 1_001_000 && late.last == 500_001_000)
    }

    @Test(arguments: [1, 2, 3, 7])
    func sharesMakeUpTheWhole(_ shares: Int) {
        let whole = dueTimes(RateSchedule(start: 5, perSecond: 1000, seconds: 0.1))
        let parts = (0..<shares).map { share in
            dueTimes(
                RateSchedule(start: 5, perSecond: 1000, seconds: 0.1, share: share, of: shares))
        }
        #expect(parts.joined().sorted() == whole)
    }
}
