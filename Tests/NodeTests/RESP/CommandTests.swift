// Every command against Redis's replies, on a leader that commits at once. The clock stands at
// 1,000,000 ms.
import Engine
import Node
import Replication
import Testing

@Suite struct CommandTests {
    /// Lines to send and, after an arrow, the replies with `|` for line ends.
    private func check(_ script: [(String, String)], settings: RESPSettings = RESPSettings()) throws
    {
        let node = TestNode(FakeReplica(), settings: settings)
        let client = try node.connect()
        for (line, expected) in script {
            let reply = try client.send(line).replacing("\r\n", with: "|")
            #expect(reply == expected, "\(line)")
        }
    }

    @Test func connection() throws {
        try check([
            ("PING", "+PONG|"), ("ping hi", "$2|hi|"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command|"),
            ("ECHO hi", "$2|hi|"), ("ECHO", "-ERR wrong number of arguments for 'echo' command|"),
            ("SELECT 0", "+OK|"), ("SELECT 1", "-ERR DB index is out of range|"),
            ("SELECT x", "-ERR value is not an integer or out of range|"),
            (
                "SELECT 99999999999",
                "-ERR value is out of range, value must between -2147483648 and 2147483647|"
            ),
            ("AUTH a b c", "-ERR syntax error|"),
            ("WAIT 0 x", "-ERR timeout is not an integer or out of range|"),
            ("WAIT x x", "-ERR value is not an integer or out of range|"),
            ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' |"),
            (
                "AUTH x",
                "-ERR AUTH <password> called without any password configured for the default "
                    + "user. Are you sure your configuration is correct?|"
            ), ("AUTH default x", "+OK|"),
            ("AUTH me x", "-WRONGPASS invalid username-password pair or user is disabled.|"),
            ("READONLY", "+OK|"), ("READWRITE", "+OK|"), ("RESET", "+RESET|"),
        ])
    }

    @Test func hello() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(try client.send("HELLO 4") == "-NOPROTO unsupported protocol version\r\n")
        #expect(
            try client.send("HELLO x")
                == "-ERR Protocol version is not an integer or out of range\r\n")
        #expect(try client.send("HELLO 3 AUTH me x").hasPrefix("-WRONGPASS invalid"))
        #expect(try client.send("HELLO 2 AUTH default x SETNAME y").hasPrefix("*14\r\n"))
        #expect(try client.send("HELLO 3 FOO") == "-ERR Syntax error in HELLO option 'FOO'\r\n")
        #expect(try client.send("GET none") == "$-1\r\n")
        let reply = try client.send("HELLO 3 SETNAME me")
        #expect(reply.hasPrefix("%7\r\n$6\r\nserver\r\n"))
        #expect(reply.contains("$5\r\nproto\r\n:3\r\n"))
        #expect(try client.send("GET none") == "_\r\n")
        #expect(try client.send("CLIENT GETNAME") == "$2\r\nme\r\n")
        #expect(try client.send("SET a 1 XX GET") == "_\r\n")
        #expect(try client.send("CONFIG GET databases") == "%1\r\n$9\r\ndatabases\r\n$1\r\n1\r\n")
        #expect(try client.send("HELLO 2").hasPrefix("*14\r\n"))
        #expect(try client.send("GET none") == "$-1\r\n")
    }

    @Test func set() throws {
        let time = "-ERR invalid expire time in 'set' command|"
        let integer = "-ERR value is not an integer or out of range|"
        let syntax = "-ERR syntax error|"
        try check([
            ("SET a 1", "+OK|"), ("GET a", "$1|1|"), ("SET a 2 NX", "$-1|"),
            ("SET a 2 XX", "+OK|"), ("SET b 1 XX", "$-1|"), ("SET b 1 NX", "+OK|"),
            ("SET a 3 GET", "$1|2|"), ("SET n 3 GET", "$-1|"), ("SET a 4 NX GET", "$1|3|"),
            ("SET a 5 EX 100", "+OK|"), ("TTL a", ":100|"), ("SET a 6 KEEPTTL", "+OK|"),
            ("PTTL a", ":100000|"), ("SET a 7", "+OK|"), ("TTL a", ":-1|"),
            ("SET a 8 px 1500", "+OK|"), ("PTTL a", ":1500|"), ("TTL a", ":2|"),
            ("SET a 9 EXAT 1001", "+OK|"), ("PTTL a", ":1000|"),
            ("SET a 9 PXAT 1000001", "+OK|"), ("PTTL a", ":1|"),
            ("SET a 9 PXAT 1000000", "+OK|"), ("GET a", "$-1|"),
            ("SET a 1 EX 0", time), ("SET a 1 EX -1", time), ("SET a 1 PX x", integer),
            ("SET a 1 EX 9223372036854775807", time), ("SET a 1 PX 9223372036854775807", time),
            ("SET a 1 EX 99999999999999999999", integer),
            ("SET a 1 EX", syntax), ("SET a 1 NX XX", syntax), ("SET a 1 FOO", syntax),
            ("SET a 1 EX 1 PX 1", syntax), ("SET a 1 KEEPTTL EX 1", syntax),
            ("SET a 1 EX 1 KEEPTTL", syntax), ("SET a 1 NX NX", "+OK|"),
            ("SET a", "-ERR wrong number of arguments for 'set' command|"),
            ("SET a 1 EX 1 EX 5", "+OK|"), ("TTL a", ":5|"),
            ("SETNX a 2", ":0|"), ("SETNX m 2", ":1|"),
            ("SETEX e 10 v", "+OK|"), ("TTL e", ":10|"), ("PSETEX e 10 v", "+OK|"),
            ("PTTL e", ":10|"), ("SETEX e 0 v", "-ERR invalid expire time in 'setex' command|"),
            ("SETEX e x v", integer),
        ])
    }

    @Test func counters() throws {
        let overflow = "-ERR increment or decrement would overflow|"
        let integer = "-ERR value is not an integer or out of range|"
        try check([
            ("INCR a", ":1|"), ("INCRBY a 10", ":11|"), ("DECR a", ":10|"), ("DECRBY a 3", ":7|"),
            ("GET a", "$1|7|"), ("SET a 9223372036854775807", "+OK|"), ("INCR a", overflow),
            ("DECRBY a -1", overflow), ("SET a -9223372036854775808", "+OK|"),
            ("DECR a", overflow),
            ("DECRBY a -9223372036854775808", "-ERR decrement would overflow|"),
            ("SET a x", "+OK|"), ("INCR a", integer), ("SET a 01", "+OK|"), ("INCR a", integer),
            ("INCRBY a x", integer), ("SET a 5 EX 50", "+OK|"), ("INCR a", ":6|"),
            ("TTL a", ":50|"),
        ])
    }

    @Test func keys() throws {
        try check([
            ("MSET a 1 b 2 c 3", "+OK|"), ("MGET a x c", "*3|$1|1|$-1|$1|3|"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
            ("EXISTS a a x", ":2|"), ("TYPE a", "+string|"), ("TYPE x", "+none|"),
            ("DEL a a x", ":1|"), ("UNLINK b", ":1|"), ("EXISTS a b c", ":1|"),
            ("TTL x", ":-2|"), ("FLUSHALL NOW", "-ERR syntax error|"),
            ("FLUSHALL ASYNC", "+OK|"), ("EXISTS c", ":0|"), ("SET a 1", "+OK|"),
            ("FLUSHDB", "+OK|"), ("GET a", "$-1|"),
        ])
    }

    @Test func expiry() throws {
        try check([
            ("EXPIRE a 10", ":0|"), ("SET a 1", "+OK|"), ("EXPIRE a 10 XX", ":0|"),
            ("EXPIRE a 10 GT", ":0|"), ("EXPIRE a 10 NX", ":1|"), ("TTL a", ":10|"),
            ("EXPIRE a 5 GT", ":0|"), ("EXPIRE a 20 GT", ":1|"), ("EXPIRE a 30 LT", ":0|"),
            ("PEXPIRE a 5000 LT", ":1|"), ("PTTL a", ":5000|"), ("PERSIST a", ":1|"),
            ("PERSIST a", ":0|"), ("TTL a", ":-1|"), ("EXPIRE a 50 LT", ":1|"),
            ("EXPIRE a x", "-ERR value is not an integer or out of range|"),
            ("EXPIRE a 10 FOO", "-ERR Unsupported option FOO|"),
            (
                "EXPIRE a 10 NX GT",
                "-ERR NX and XX, GT or LT options at the same time are not compatible|"
            ),
            (
                "EXPIRE a 10 GT LT",
                "-ERR GT and LT options at the same time are not compatible|"
            ),
            (
                "EXPIRE a 9223372036854775807",
                "-ERR invalid expire time in 'expire' command|"
            ),
            ("EXPIRE a -1", ":1|"), ("EXISTS a", ":0|"),
        ])
    }

    @Test func ranges() throws {
        try check([
            ("MSET a 1 b 2 c 3 d 4", "+OK|"),
            ("MT.RANGE b d", "*4|$1|b|$1|2|$1|c|$1|3|"),
            ("MT.RANGE - + LIMIT 1", "*2|$1|a|$1|1|"),
            ("MT.RANGE - + REVERSE LIMIT 1", "*2|$1|d|$1|4|"),
            ("MT.RANGE d b", "*0|"), ("MT.RANGE - + LIMIT 0", "*0|"),
            ("MT.RANGE - + LIMIT -1", "-ERR value is out of range, must be positive|"),
            ("MT.RANGE - + LIMIT", "-ERR syntax error|"),
            ("MT.RANGE -", "-ERR wrong number of arguments for 'mt.range' command|"),
            ("MT.DELRANGE b d", "+OK|"), ("MT.RANGE - +", "*4|$1|a|$1|1|$1|d|$1|4|"),
            ("MT.DELRANGE - +", "+OK|"), ("MT.RANGE - +", "*0|"),
        ])
    }

    @Test func rangesAreBoundedInBytes() throws {
        var settings = RESPSettings()
        settings.rangeBytes = 3
        try check(
            [("MSET a 1 b 2 c 3", "+OK|"), ("MT.RANGE - +", "*4|$1|a|$1|1|$1|b|$1|2|")],
            settings: settings)
    }

    @Test func limitsAreNamed() throws {
        var settings = RESPSettings()
        settings.valueBytes = 100_000
        settings.outputBytes = 100_000
        let node = TestNode(FakeReplica(), settings: settings)
        let client = try node.connect()
        func array(_ arguments: String...) -> String {
            "*\(arguments.count)\r\n" + arguments.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        }
        let key = String(repeating: "k", count: Limits.keyBytes + 1)
        let keyError = "-ERR key is 65537 bytes, above the limit of 65536\r\n"
        for command in [
            array("GET", key), array("SET", key, "1"), array("MSET", "a", "1", key, "2"),
            array("DEL", "a", key), array("MT.DELRANGE", "a", key), array("MT.RANGE", key, "+"),
        ] {
            try client.push(command)
            node.settle()
            #expect(try client.replies() == keyError)
        }
        for command in [array("SET", "", "1"), array("MGET", "a", ""), array("DEL", "")] {
            try client.push(command)
            node.settle()
            #expect(try client.replies() == "-ERR key is empty, a key has 1 to 65536 bytes\r\n")
        }
        try client.push(array("SET", "a", String(repeating: "v", count: 100_001)))
        node.settle()
        #expect(
            try client.replies() == "-ERR value is 100001 bytes, above the limit of 100000\r\n")
        try client.push(array("SET", "a", String(repeating: "v", count: 90_000)))
        node.settle()
        #expect(try client.replies() == "+OK\r\n")
        #expect(try client.send("MGET a a a").hasPrefix("-ERR a reply is "))
        #expect(client.isOpen)
    }

    @Test func client() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(try client.send("CLIENT ID") == ":1\r\n")
        #expect(try client.send("CLIENT GETNAME") == "$-1\r\n")
        #expect(try client.send("CLIENT SETNAME app") == "+OK\r\n")
        #expect(
            try client.send("CLIENT SETNAME \"a b\"")
                == "-ERR Client names cannot contain spaces, newlines or special characters.\r\n")
        #expect(try client.send("CLIENT SETINFO LIB-NAME redis-py") == "+OK\r\n")
        #expect(
            try client.send("CLIENT SETINFO FOO x") == "-ERR Unrecognized option 'FOO'\r\n")
        #expect(try client.send("CLIENT INFO").contains("name=app"))
        let other = try node.connect()
        let list = try other.send("CLIENT LIST")
        #expect(list.contains("id=1 ") && list.contains("id=2 "))
        #expect(list.contains("lib-name=redis-py"))
        #expect(!(try other.send("CLIENT LIST ID 1").contains("id=2 ")))
        #expect(try client.send("CLIENT NO-EVICT ON", "CLIENT NO-TOUCH OFF") == "+OK\r\n+OK\r\n")
        #expect(try client.send("CLIENT REPLY ON") == "+OK\r\n")
        #expect(
            try client.send("CLIENT ID x")
                == "-ERR wrong number of arguments for 'client|id' command\r\n")
        #expect(
            try client.send("CLIENT FOO") == "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n")
    }

    @Test func commandTable() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(try client.send("COMMAND COUNT") == ":\(CommandID.allCases.count)\r\n")
        #expect(CommandTable.shared.specs.map(\.id) == CommandID.allCases)
        #expect(
            try client.send("COMMAND INFO get nope")
                == "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n"
                + ":1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n*-1\r\n")
        #expect(try client.send("COMMAND").hasPrefix("*\(CommandID.allCases.count)\r\n*10\r\n"))
        #expect(try client.send("COMMAND DOCS get").hasPrefix("*2\r\n$3\r\nget\r\n*4\r\n"))
        #expect(try client.send("COMMAND DOCS nope") == "*0\r\n")
    }

    /// Redis's texts for everything that can be wrong with a second word.
    @Test func subcommands() throws {
        let syntax = "-ERR syntax error|"
        func arity(_ name: String) -> String {
            "-ERR wrong number of arguments for '\(name)' command|"
        }
        try check([
            ("CLIENT", arity("client")), ("CONFIG", arity("config")),
            ("CLIENT FROB", "-ERR unknown subcommand 'FROB'. Try CLIENT HELP.|"),
            ("command frob x", "-ERR unknown subcommand 'frob'. Try COMMAND HELP.|"),
            ("CONFIG FROB", "-ERR unknown subcommand 'FROB'. Try CONFIG HELP.|"),
            ("MT.SCRUB FROB", "-ERR unknown subcommand 'FROB'. Try MT.SCRUB HELP.|"),
            ("CLIENT SETNAME", arity("client|setname")), ("CLIENT HELP x", arity("client|help")),
            ("CLIENT REPLY x", syntax), ("CLIENT NO-EVICT x", syntax),
            ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'|"),
            ("CLIENT LIST TYPE pubsub", "$0||"), ("CLIENT LIST TYPE", syntax),
            ("CLIENT LIST ID", syntax), ("CLIENT LIST ID x", "-ERR Invalid client ID|"),
            ("COMMAND COUNT x", arity("command|count")), ("COMMAND LIST FOO", syntax),
            ("COMMAND LIST FILTERBY", syntax), ("COMMAND LIST FILTERBY FOO x", syntax),
            ("COMMAND LIST FILTERBY PATTERN mg*", "*1|$4|mget|"),
            ("COMMAND LIST FILTERBY MODULE x", "*0|"),
            ("COMMAND GETKEYS mset a 1 b 2", "*2|$1|a|$1|b|"),
            ("COMMAND GETKEYS", arity("command|getkeys")),
            ("COMMAND GETKEYS nope a", "-ERR Invalid command specified|"),
            ("COMMAND GETKEYS get", "-ERR Invalid number of arguments specified for command|"),
            ("COMMAND GETKEYS ping", "-ERR The command has no key arguments|"),
            ("CONFIG GET", arity("config|get")), ("CONFIG SET a", arity("config|set")),
            ("CONFIG SET save a databases", syntax), ("CONFIG REWRITE x", arity("config|rewrite")),
            (
                "CONFIG SET foo 1",
                "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'|"
            ),
            ("CONFIG RESETSTAT x", arity("config|resetstat")),
            ("MT.SCRUB START x", arity("mt.scrub|start")),
        ])
    }

    /// Every container answers HELP with all its subcommands, and every subcommand checks its
    /// number of arguments.
    @Test func everySubcommand() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        let containers = CommandTable.shared.specs.filter { !$0.subcommands.isEmpty }
        #expect(containers.map(\.name).sorted() == ["client", "command", "config", "mt.scrub"])
        for container in containers {
            let help = try client.send("\(container.name) HELP").split(separator: "\r\n")
            #expect(help.first == "*\(help.count - 1)")
            let title = "+\(container.name.uppercased()) <subcommand> [<arg> [value] [opt] ...]."
            #expect(help.dropFirst().first == "\(title) Subcommands are:")
            for subcommand in container.subcommands {
                #expect(help.contains { $0.hasPrefix("+\(subcommand.name.uppercased())") })
                let name = "\(container.name)|\(subcommand.name)"
                var wrong = Array(2..<max(2, abs(subcommand.arity)))
                if subcommand.arity > 0 { wrong.append(subcommand.arity + 1) }
                for count in wrong {
                    let arguments = Array(repeating: "1", count: count - 2)
                    let line = ([container.name, subcommand.name] + arguments)
                        .joined(separator: " ")
                    #expect(
                        try client.send(line)
                            == "-ERR wrong number of arguments for '\(name)' command\r\n")
                }
            }
        }
    }

    @Test func reports() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        try client.send("SET a 1", "GET a", "GET b")
        let info = try client.send("INFO")
        for line in [
            "# Server\r\nredis_version:7.2.0", "tcp_port:7379", "connected_clients:1",
            "role:master\r\nconnected_slaves:2", "keyspace_hits:1\r\nkeyspace_misses:1",
            "# Martlet\r\nnode:1", "slave0:ip=10.0.0.2,port=7379",
        ] {
            #expect(info.contains(line), "\(line)")
        }
        #expect(!info.contains("used_memory:0\r\n"))
        #expect(!(try client.send("INFO clients").contains("# Server")))
        #expect(
            try client.send("ROLE")
                == "*3\r\n$6\r\nmaster\r\n:1\r\n*2\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n7379\r\n"
                + "$1\r\n1\r\n*3\r\n$8\r\n10.0.0.3\r\n$4\r\n7379\r\n$1\r\n1\r\n")
        node.replica.set { $0.term = nil }
        #expect(
            try client.send("ROLE")
                == "*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.2\r\n:7379\r\n$9\r\nconnected\r\n:1\r\n")
        #expect(try client.send("INFO replication").contains("role:slave\r\nmaster_host:10.0.0.2"))
        #expect(
            try client.send("CONFIG GET save appendonly")
                == "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n")
        #expect(try client.send("CONFIG GET LOG.*") == "*2\r\n$8\r\nlog.sync\r\n$6\r\nalways\r\n")
        #expect(try client.send("CONFIG SET save x").hasPrefix("-ERR settings are changed in"))
        #expect(try client.send("CONFIG RESETSTAT") == "+OK\r\n")
        #expect(node.environment.statistics.keyspaceHits.value == 0)
        #expect(try client.send("MT.STATUS") == "$10\r\n{\"node\":1}\r\n")
        #expect(try client.send("MT.LEDGER 5", "MT.TABLES") == "$3\r\n[5]\r\n$2\r\n[]\r\n")
        #expect(try client.send("MT.SCRUB START") == "-BUSY a scrub is running\r\n")
        #expect(try client.send("MT.SCRUB STATUS") == "$19\r\n{\"state\":\"running\"}\r\n")
    }

    /// Every command with too few and with too many arguments: Redis's text or a proper reply, and
    /// the connection lives.
    @Test func everyArity() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        for spec in CommandTable.shared.specs where spec.id != .quit {
            for count in 0..<abs(spec.arity) - 1 {
                let line = ([spec.name] + Array(repeating: "1", count: count))
                    .joined(separator: " ")
                #expect(
                    try client.send(line)
                        == "-ERR wrong number of arguments for '\(spec.name)' command\r\n")
            }
            if spec.arity > 0 {
                let line = ([spec.name] + Array(repeating: "1", count: spec.arity))
                    .joined(separator: " ")
                #expect(
                    try client.send(line)
                        == "-ERR wrong number of arguments for '\(spec.name)' command\r\n")
            }
        }
        #expect(client.isOpen)
    }
}
