//! Keeps threads on cores, so that the scheduler's choice of cores is not what is measured.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first two cores that this process may use; the only one twice.
fn cores() -> Option<[usize; 2]> {
    static CORES: OnceLock<Option<[usize; 2]>> = OnceLock::new();
    *CORES.get_or_init(|| {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let first = cores.next()?;
        Some([first, cores.next().unwrap_or(first)])
    })
}

/// Moves the calling thread to the first (0) or second (1) core. If the system refuses, it stays
/// where it is.
pub(crate) fn to(core: usize) {
    if let Some(cores) = cores() {
        let mut set = CpuSet::new();
        set.set(cores[core]);
        let _ = sched_setaffinity(None, &set);
    }
}

/// Finds out which cores there are; before any thread is pinned.
pub(crate) fn init() {
    cores();
}
