// The process's log: text lines on standard error at the configured level.
import Logging

package enum NodeLogging {
    /// Call once, before the first logger is made.
    package static func bootstrap(level: NodeConfiguration.LogLevel) {
        let level = Logger.Level(rawValue: level.rawValue) ?? .info
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
    }
}
