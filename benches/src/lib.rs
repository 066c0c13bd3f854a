//! Benchmarks of `rtc-thread`.
