// The engine's lock that the thread sanitizer understands, for this module: two imported
// declarations of one name would be ambiguous, one of this module comes before both.

#if THREAD_SANITIZER
    import Engine

    typealias Mutex<Value: ~Copyable> = Engine.Mutex<Value>
#endif
