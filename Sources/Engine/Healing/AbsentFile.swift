// Stands for a table's file that is not there or cannot be opened: an empty one, none of whose
// blocks reads. So a reader over it gets every block from the replicas, like any damaged block.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class AbsentFile: File {
    let path: String

    init(path: String) { self.path = path }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    {
        0
    }

    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    {
        0
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        throw refusal("write")
    }

    func sync() throws(FileError) { throw refusal("fsync") }
    func size() throws(FileError) -> UInt64 { 0 }
    func truncate(to size: UInt64) throws(FileError) { throw refusal("truncate") }
    func map(size: Int) throws(FileError) -> any FileMapping { throw refusal("mmap") }

    private func refusal(_ operation: String) -> FileError {
        FileError(operation: operation, path: path, code: ENOENT)
    }
}
