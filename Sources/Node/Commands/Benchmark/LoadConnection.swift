// One client of a load: a connection with at most one request in flight. It belongs to its worker,
// on whose event loop everything here runs.
import NIOCore

final class LoadConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private unowned let worker: LoadWorker
    /// Of the endpoint that it is connected to; moves on when that one is lost.
    var endpoint: Int
    private var context: ChannelHandlerContext?
    private var scanner = ReplyScanner()
    private var set: LoadRequest
    private var get = LoadRequest.get()

    /// When the request in flight was due; nil if there is none.
    private(set) var dueSince: UInt64?
    private(set) var sentAt: UInt64 = 0
    private(set) var isRead = false
    private var repliesLeft = 0
    private var failure: String?
    private var isMissing = false

    init(worker: LoadWorker, endpoint: Int) {
        self.worker = worker
        self.endpoint = endpoint
        let options = worker.options
        set = LoadRequest.set(
            valueBytes: options.valueBytes, waitReplicas: options.waitReplicas,
            waitMilliseconds: options.waitMilliseconds)
    }

    /// Begins a request and returns its bytes, which `send` takes at once.
    func request(
        due: UInt64, at now: UInt64, key: UInt64, isRead: Bool, _ values: inout BenchmarkValues
    ) -> ByteBuffer {
        dueSince = due
        sentAt = now
        self.isRead = isRead
        failure = nil
        isMissing = false
        repliesLeft = isRead ? get.replies : set.replies
        return isRead ? get.bytes(key: key, &values) : set.bytes(key: key, &values)
    }

    func send(_ bytes: ByteBuffer) {
        context?.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    }

    /// The request in flight is not waited for any more.
    func abandon() {
        dueSince = nil
        context?.close(promise: nil)
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        scanner = ReplyScanner()
        worker.opened(self)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        worker.lost(self, "connection-lost")
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        unwrapInboundIn(data).withUnsafeReadableBytes { bytes in
            var offset = 0
            do throws(ReplyScanner.Problem) {
                while let reply = try scanner.next(bytes, &offset) {
                    guard dueSince != nil else {
                        throw ReplyScanner.Problem(description: "a reply to no request")
                    }
                    take(reply)
                }
            } catch {
                worker.fail(self, "no-reply-of-RESP2")
                context.close(promise: nil)
            }
        }
    }

    private func take(_ reply: ReplyScanner.Reply) {
        switch reply {
        case .error(let kind): failure = failure ?? kind
        case .integer(let replicas) where replicas < Int64(worker.options.waitReplicas):
            failure = failure ?? "too-few-replicas"
        case .null: isMissing = true
        case .simple, .integer, .bulk: break
        }
        repliesLeft -= 1
        guard repliesLeft == 0 else { return }
        let outcome = failure.map(LoadWorker.Outcome.failed)
        worker.answered(self, outcome ?? (isMissing ? .missing : .done))
    }

    /// The worker has counted the answer.
    func becomeIdle() { dueSince = nil }
}
