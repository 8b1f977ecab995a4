// What was lost everywhere a moment ago is not asked for by every read.
import Engine
import Testing

@Suite struct FruitlessQuestionsTests {
    private let question = FruitlessQuestions.Question.block(
        BlockAddress(
            table: TableID(index: LogIndex(5), kind: .flush, ordinal: 0), ordinal: BlockOrdinal(3)))

    @Test func oneReadAsksAfterEachPause() {
        let pause = FruitlessQuestions.pauseMilliseconds
        var questions = FruitlessQuestions()
        let may1 = questions.mayAsk(question, now: 100)
        #expect(may1)
        questions.note(question, isAnswered: false, now: 150)
        let may2 = questions.mayAsk(question, now: 151)
        #expect(!may2)
        let may3 = questions.mayAsk(question, now: 149 + pause)
        #expect(!may3)
        let may4 = questions.mayAsk(question, now: 150 + pause)
        #expect(may4)
        // While that one waits for its answer the others fail at once.
        let may5 = questions.mayAsk(question, now: 151 + pause)
        #expect(!may5)
        questions.note(question, isAnswered: true, now: 160 + pause)
        let may6 = questions.mayAsk(question, now: 161 + pause)
        #expect(may6)
    }

    @Test func whoComesBackIsAskedAtOnce() {
        var questions = FruitlessQuestions()
        questions.note(question, isAnswered: false, now: 150)
        questions.forget()
        let may = questions.mayAsk(question, now: 151)
        #expect(may)
    }

    @Test func aClockSetBackEndsThePause() {
        var questions = FruitlessQuestions()
        questions.note(question, isAnswered: false, now: 1_000_000)
        let may7 = questions.mayAsk(question, now: 10)
        #expect(may7)
    }

    @Test func theMemoryIsBounded() {
        var questions = FruitlessQuestions()
        for ordinal in 0...FruitlessQuestions.questionsMax {
            let address = BlockAddress(
                table: TableID(index: LogIndex(5), kind: .flush, ordinal: 0),
                ordinal: BlockOrdinal(UInt32(ordinal)))
            questions.note(.read(address), isAnswered: false, now: 7)
        }
        #expect(questions.count == 1)
    }
}
