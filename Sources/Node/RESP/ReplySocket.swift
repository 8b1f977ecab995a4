// A client's socket, for replies that the system takes at once. Nearly all are a few bytes to a
// client that waits for them, and the channel's way (a buffer, its place in a queue, a promise, a
// callback) costs more than half as much again as the system call. What the system does not take is
// left to the channel, and so is every error: the same bytes then fail there, and the connection
// ends.
//
// Only for a session that is its channel's only handler, on the channel's event loop, while the
// channel holds no bytes that go before, and no longer than until `channelInactive`: the channel
// closes the socket right before that, and nothing is sent in between.
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct ReplySocket {
    private let handle: NIOBSDSocket.Handle

    /// Nil for a channel without a socket.
    init?(_ channel: any Channel) {
        let found = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { $0 }
        guard let found else { return nil }
        handle = found
    }

    /// How many of `bytes` the system has taken, from the first on.
    func send(_ bytes: [UInt8]) -> Int {
        let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
        return bytes.withUnsafeBytes { bytes in
            #if canImport(Glibc)
                max(0, Glibc.send(handle, bytes.baseAddress, bytes.count, flags))
            #elseif canImport(Musl)
                max(0, Musl.send(handle, bytes.baseAddress, bytes.count, flags))
            #endif
        }
    }
}
