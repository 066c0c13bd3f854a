//! Benchmarks of `rtc-thread` and `socket-server`. They are in `benches/`; run them with
//! `cargo bench -p benches`.
