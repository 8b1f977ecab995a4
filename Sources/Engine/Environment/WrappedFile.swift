// A file that does as another one does, but for what its class does itself: what paces, records or
// interrupts the use of a file says only that.

package protocol WrappedFile: File {
    var file: any File { get }
}

extension WrappedFile {
    package var path: String { file.path }

    package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    {
        try file.read(at: offset, into: buffer)
    }

    package func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    {
        try file.readFromMedium(at: offset, into: buffer)
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try file.write(bytes, at: offset)
    }

    package func sync() throws(FileError) { try file.sync() }
    package func size() throws(FileError) -> UInt64 { try file.size() }
    package func truncate(to size: UInt64) throws(FileError) { try file.truncate(to: size) }
    package func map(size: Int) throws(FileError) -> any FileMapping { try file.map(size: size) }
}
