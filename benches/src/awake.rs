//! Keeps a core from halting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::pin;

/// Keeps a core from halting; it stops when this is dropped.
///
/// It spins there, and whoever has anything to do goes first. To wake a core that has halted costs
/// its next thread tens of microseconds on some virtual machines, which would hide what is measured.
pub(crate) struct Awake {
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    pub(crate) fn core(core: usize) -> Self {
        let quit = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let quit = quit.clone();
            move || {
                pin::to(core);
                // With any other priority it would get in the way.
                if lowest_priority().is_ok() {
                    while !quit.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        Self {
            quit,
            thread: Some(thread),
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// The calling thread runs when no other wants to.
fn lowest_priority() -> io::Result<()> {
    let no_priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter is valid, 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const no_priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
