// When a simulated read may fail: only for a block that its node asked for in vain a moment ago.
import Engine
import Simulation
import Testing

@Suite struct UnansweredQuestionsTests {
    private static let table = TableID(index: LogIndex(9), kind: .flush, ordinal: 0)
    private let block = BlockAddress(table: Self.table, ordinal: BlockOrdinal(2))
    private let pause = FruitlessQuestions.pauseMilliseconds
    private var lost: EngineError { .blockLost(block, reason: "") }

    @Test func aScanFailsForABlockThatWasAskedFor() {
        var questions = UnansweredQuestions()
        #expect(!questions.explainScan(lost, now: 1_000))
        questions.noteBlock(block, now: 1_000)
        #expect(questions.explainScan(lost, now: 1_000))
        #expect(questions.explainScan(lost, now: 999 + pause))
        let other = BlockAddress(table: Self.table, ordinal: BlockOrdinal(3))
        #expect(!questions.explainScan(.blockLost(other, reason: ""), now: 1_000))
        #expect(!questions.explainScan(.tableLost(Self.table, reason: ""), now: 1_000))
        #expect(!questions.explainScan(.closed, now: 1_000))
    }

    @Test func theNodeHasToAskAgain() {
        var questions = UnansweredQuestions()
        questions.noteBlock(block, now: 1_000)
        #expect(!questions.explainScan(lost, now: 1_000 + pause))
        // Its clock was set back: the healer asks again then.
        #expect(!questions.explainScan(lost, now: 999))
    }

    @Test func anEarlierQuestionCountsOnceTheClockWasSetBack() {
        var questions = UnansweredQuestions()
        questions.noteBlock(block, now: 1_000)
        questions.noteRead(now: 1_000)
        // A heal's, which is no reason for reads to wait.
        questions.noteBlock(block, now: 3_000)
        questions.noteRead(now: 3_000)
        #expect(questions.explainScan(lost, now: 2_000))
        #expect(questions.explainRead(lost, now: 2_000))
    }

    @Test func aReadFailsOnlyIfNobodyAnsweredItEither() {
        var questions = UnansweredQuestions()
        questions.noteBlock(block, now: 1_000)
        #expect(!questions.explainRead(lost, now: 1_000))
        questions.noteRead(now: 1_001)
        #expect(questions.explainRead(lost, now: 1_002))
        #expect(!questions.explainRead(lost, now: 1_000 + pause))
    }
}
