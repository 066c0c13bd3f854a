//! One test with real peers at a time: each of them wants the machine for itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where tests may leave files: browser profiles, logs, pictures of failures.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A name in the scratch folder that no other test uses.
pub(crate) fn scratch_path(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("{name}-{}-{number}", std::process::id()))
}

/// Held by a test while it runs browsers. It keeps out the other tests of its file as well as those
/// of other processes, so that encoders do not compete and time limits mean something.
#[derive(Debug)]
pub(crate) struct Machine {
    _lock: File,
}

impl Machine {
    /// Blocks until no other test has the machine.
    pub(crate) fn reserve() -> Self {
        fs::create_dir_all(scratch()).unwrap();
        let lock = File::create(scratch().join("machine.lock")).unwrap();
        lock.lock().unwrap();
        Self { _lock: lock }
    }
}
