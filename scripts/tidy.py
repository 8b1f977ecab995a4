#!/usr/bin/env python3
"""Rules of the house that the formatter and the compiler do not check.

Prints one line per breach, `file:line: rule`, and exits with 1 if there is any. Without arguments
it looks at Sources and Tests of the repository it stands in.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINE_MAX = 100
SOURCE_LINES_MAX = 600
TEST_LINES_MAX = 900
TRAPS = 31

# (rule, pattern, which paths it holds for, which files are exempt)
BANNED = [
    ("no Foundation below Node", r"^\s*(@\w+ )?import (Foundation|Dispatch)\b",
     ("Sources/Engine/", "Sources/Replication/"), ()),
    ("no sockets in Engine", r"^\s*import NIO", ("Sources/Engine/",), ()),
    ("imports go down only", r"^\s*import (Replication|Cluster|Node)\b", ("Sources/Engine/",), ()),
    ("imports go down only", r"^\s*import (Cluster|Node)\b", ("Sources/Replication/",), ()),
    ("imports go down only", r"^\s*import Node\b", ("Sources/Cluster/",), ()),
    ("try! hides an error", r"\btry!", ("Sources/", "Tests/"), ()),
    ("as! hides an error", r"\bas!", ("Sources/", "Tests/"), ()),
    ("fatalError belongs to Invariant.swift", r"\bfatalError\(", ("Sources/",),
     ("Sources/Engine/Base/Invariant.swift",)),
    ("open ends belong into an issue", r"\b(TODO|FIXME|XXX|HACK)\b", ("Sources/", "Tests/"), ()),
    ("tests do not sleep", r"\b(sleep|usleep|nanosleep)\(|Task\.sleep|Thread\.sleep",
     ("Tests/",), ()),
    ("output goes through a logger", r"(?<![\w.])print\(",
     ("Sources/Engine/", "Sources/Replication/", "Sources/Cluster/", "Sources/Node/"), ()),
    ("a closure in a mutex is wrapped anew at each use; put it into a struct",
     r"Mutex<\(*@Sendable|Mutex<\w*(Handler|Completion)\??>", ("Sources/",), ()),
    ("randomness comes from a seed", r"\.random\((?!.*(?:using:|&))|\.shuffled\(\)|\.randomElement\(\)",
     ("Sources/Engine/", "Tests/"), ("Sources/Engine/Database/DatabaseEnvironment.swift",)),
]


def main(arguments):
    roots = [pathlib.Path(a).resolve() for a in arguments] or [ROOT / "Sources", ROOT / "Tests"]
    breaches = []
    for root in roots:
        files = [root] if root.is_file() else sorted(root.rglob("*.swift"))
        for path in files:
            breaches += check(path)
    if not arguments:
        breaches += check_examples() + check_traps()
    for breach in breaches:
        print(breach)
    if breaches:
        print(f"{len(breaches)} breaches", file=sys.stderr)
    return 1 if breaches else 0


def check_examples():
    """Examples of the documentation that no test runs."""
    tests = "\n".join(
        line.strip() for path in sorted((ROOT / "Tests/EngineTests/Examples").glob("*.swift"))
        for line in path.read_text(encoding="utf-8").split("\n"))
    found = []
    for path in sorted((ROOT / "Sources/Engine/Engine.docc").glob("*.md")):
        for block in re.findall(r"```swift\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
            code = "\n".join(line.strip() for line in block.strip().split("\n"))
            if code not in tests:
                found.append(f"{path.relative_to(ROOT)}: no test runs '{block.split(chr(10))[0]}'")
    return found


def check_traps():
    """The traps of docs/ARCHITECTURE.md: each has a test that says so, or the table says why not."""
    table = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) [^|]*\| ([^|]*) \|$", table, re.MULTILINE)
    tests = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "Tests").rglob("*.swift")))
    named = {number for found in re.findall(r"\b[Tt]raps? ?(\d+(?: and \d+)?)", tests)
             for number in found.split(" and ")}
    found = [f"docs/ARCHITECTURE.md: no test names trap {number}" for number, guard in rows
             if number not in named and not guard.startswith("no test")]
    if [int(number) for number, _ in rows] != list(range(1, TRAPS + 1)):
        found.append(f"docs/ARCHITECTURE.md: not every trap from 1 to {TRAPS} has its row")
    return found


def check(path):
    try:
        name = str(path.relative_to(ROOT))
    except ValueError:
        name = str(path)
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    found = []
    if text and not text.endswith("\n"):
        found.append(f"{name}:{len(lines)}: no line end at the end")
    limit = TEST_LINES_MAX if name.startswith("Tests/") else SOURCE_LINES_MAX
    if len(lines) > limit:
        found.append(f"{name}:{limit}: {len(lines)} lines, above {limit}; split the subject")
    if name.startswith("Sources/") and not lines[0].startswith("//"):
        found.append(f"{name}:1: no header comment saying what the file is")
    rules = [(rule, re.compile(pattern)) for rule, pattern, places, exempt in BANNED
             if name.startswith(places) and name not in exempt]
    in_text = False
    for number, line in enumerate(lines, 1):
        # Vectors and scripts inside tests may be wide; swift-format minds the code around them.
        if len(line) > LINE_MAX and not name.startswith("Tests/"):
            found.append(f"{name}:{number}: {len(line)} columns, above {LINE_MAX}")
        if line != line.rstrip():
            found.append(f"{name}:{number}: blanks at the end")
        if "\t" in line:
            found.append(f"{name}:{number}: a tab")
        code = "" if in_text else line.split("//")[0]
        if line.count('"""') % 2 == 1:
            in_text = not in_text
        for rule, pattern in rules:
            # Open ends count in comments too.
            if pattern.search(line if "open ends" in rule else code):
                found.append(f"{name}:{number}: {rule}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
