//! What a post costs: wake-ups and allocations, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use rtc_thread::{INLINE_CAPTURE_BYTES, Thread};
use socket_server::{
    MaxWait, NullSocketServer, PhysicalSocketServer, ProcessIo, SocketServer, UdpOptions,
    UdpSocket, Wake, WakeHandle,
};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator; counting touches no memory that is
// being allocated, since the counter needs no initialisation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn small_posts_allocate_nothing_once_the_queue_has_grown() {
    let thread = Thread::builder().spawn().unwrap();
    let burst = || {
        // Held up, so that the queue grows to the whole burst.
        let (go, wait) = bounded::<()>(1);
        thread.post(move || wait.recv().unwrap()).unwrap();
        let allocated = allocations_in(|| {
            for n in 0..1000_usize {
                let captures = [n as u8; INLINE_CAPTURE_BYTES];
                thread.post(move || _ = black_box(captures)).unwrap();
            }
        });
        go.send(()).unwrap();
        thread.blocking_call(|| ()).unwrap();
        allocated
    };
    // Both of the queue's buffers, that of the poster and that of the owner, have to grow once; which
    // of them a burst meets is a matter of timing.
    let allocated: usize = (0..100).map(|_| burst()).sum();
    assert!(allocated < 50, "{allocated} for 100,000 posts");
    let too_large = allocations_in(|| {
        let captures = [0_u8; INLINE_CAPTURE_BYTES + 1];
        thread.post(move || _ = black_box(captures)).unwrap();
    });
    assert_eq!(1, too_large);
}

#[test]
fn blocking_calls_and_posts_that_run_allocate_nothing_on_either_side() {
    let thread = Thread::builder().spawn().unwrap();
    let round = || {
        let mut sum = 0;
        let here = allocations_in(|| {
            for n in 0..100 {
                sum += thread.blocking_call(|| n).unwrap();
            }
        });
        assert_eq!(4950, sum);
        here
    };
    // The first call makes what the thread reuses.
    round();
    let there = thread.blocking_call(|| ALLOCATIONS.get()).unwrap();
    assert_eq!(0, round());
    assert_eq!(there, thread.blocking_call(|| ALLOCATIONS.get()).unwrap());
}

/// Counts what is asked of a real server.
#[derive(Debug)]
struct Observed<S> {
    server: S,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sleeps: AtomicUsize,
    wakes: AtomicUsize,
}

struct CountedWake {
    wake: WakeHandle,
    counts: Arc<Counts>,
}

impl Wake for CountedWake {
    fn wake(&self) {
        self.counts.wakes.fetch_add(1, Ordering::SeqCst);
        self.wake.wake();
    }
}

impl<S: SocketServer> SocketServer for Observed<S> {
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        if max_wait != MaxWait::Poll {
            self.counts.sleeps.fetch_add(1, Ordering::SeqCst);
        }
        self.server.wait(max_wait, process_io)
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(Arc::new(CountedWake {
            wake: self.server.wake_handle(),
            counts: self.counts.clone(),
        }))
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        self.server.bind_udp(options)
    }
}

fn observed<S: SocketServer + 'static>(
    make: impl FnOnce() -> io::Result<S> + Send + 'static,
) -> (Thread, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let own = counts.clone();
    let builder = Thread::builder().socket_server(move || {
        Ok(Observed {
            server: make()?,
            counts: own,
        })
    });
    (builder.spawn().unwrap(), counts)
}

fn on_both_servers(test: impl Fn(Thread, Arc<Counts>)) {
    let (thread, counts) = observed(|| Ok(NullSocketServer::new()));
    test(thread, counts);
    let (thread, counts) = observed(PhysicalSocketServer::new);
    test(thread, counts);
}

#[test]
fn there_is_never_more_than_one_wake_up_for_one_sleep() {
    on_both_servers(|thread, counts| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..20_000 {
                        thread.post(|| ()).unwrap();
                        if n % 100 == 0 {
                            thread.blocking_call(|| ()).unwrap();
                        }
                    }
                });
            }
        });
        thread.blocking_call(|| ()).unwrap();
        let (sleeps, wakes) = (
            counts.sleeps.load(Ordering::SeqCst),
            counts.wakes.load(Ordering::SeqCst),
        );
        assert!(wakes <= sleeps, "{wakes} wake-ups for {sleeps} sleeps");
        assert!(wakes > 0);
    });
}

#[test]
fn posts_to_a_busy_thread_wake_nobody() {
    on_both_servers(|thread, counts| {
        let (entered_sender, entered) = bounded(1);
        let (go, wait) = bounded::<()>(1);
        thread
            .post(move || {
                entered_sender.send(()).unwrap();
                wait.recv().unwrap();
            })
            .unwrap();
        entered.recv().unwrap();
        let before = counts.wakes.load(Ordering::SeqCst);
        for _ in 0..1000 {
            thread.post(|| ()).unwrap();
            thread
                .post_delayed(Duration::from_millis(1), || ())
                .unwrap();
        }
        assert_eq!(before, counts.wakes.load(Ordering::SeqCst));
        go.send(()).unwrap();
    });
}

#[test]
fn posts_of_a_thread_to_itself_wake_nobody() {
    on_both_servers(|thread, counts| {
        let handle = thread.handle();
        thread
            .blocking_call(|| {
                let before = counts.wakes.load(Ordering::SeqCst);
                for _ in 0..1000 {
                    handle.post(|| ()).unwrap();
                    handle.post_delayed(Duration::ZERO, || ()).unwrap();
                }
                assert_eq!(before, counts.wakes.load(Ordering::SeqCst));
            })
            .unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_between_a_poster_and_an_owner_that_falls_asleep() {
    let seed = std::env::var("WAKEUP_SEED").map_or_else(
        |_| u64::from(std::process::id()) << 16 | 1,
        |seed| seed.parse().expect("WAKEUP_SEED is a number"),
    );
    println!("replay with WAKEUP_SEED={seed}");
    on_both_servers(|thread, _counts| {
        let mut noise = seed;
        for _ in 0..20_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let (done, wait) = bounded(1);
            thread.post(move || done.send(()).unwrap()).unwrap();
            // Hangs here if the owner sleeps on the post.
            wait.recv().unwrap();
            // Meets the owner at another point of its way to sleep each time.
            for _ in 0..noise % 512 {
                std::hint::spin_loop();
            }
        }
    });
}
