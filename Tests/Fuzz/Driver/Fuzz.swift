// What libFuzzer calls; `scripts/fuzz` builds and runs it.

import FuzzTargets

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzedTarget.run(UnsafeRawBufferPointer(start: start, count: count))
    return 0
}
