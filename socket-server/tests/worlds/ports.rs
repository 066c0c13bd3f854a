//! Ports that can be had again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of these, systems give none to who asks for any.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Opens something at a port that stays free when it is closed. One that the system has chosen may be
/// somebody else's right after: another test's, say, that has asked for any.
#[track_caller]
pub(crate) fn at_lasting_port<T>(open: impl Fn(u16) -> io::Result<T>) -> T {
    // No test of this process gets what another one has had, and hardly one of another process.
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) >> 32));
    for _ in PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u64;
        match open(PORTS.start + number as u16) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            opened => return opened.unwrap(),
        }
    }
    panic!("all ports are in use");
}
