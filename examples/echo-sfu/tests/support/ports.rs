//! Ports for others to bind to, or that are to be had again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::UdpSocket;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of these, systems give none to who asks for any: what is free here does not become somebody's by
/// accident.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// An even port on the loopback address that nobody has, and neither the next.
pub(crate) fn free_port() -> u16 {
    // No test of this process gets what another one has had, and hardly one of another process.
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) >> 32));
    let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    for _ in PORTS {
        let number = 2 * NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u64;
        let port = PORTS.start + number as u16;
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
    panic!("all ports are in use");
}
