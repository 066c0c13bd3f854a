//! The SFU in simulation: twenty people come, mute, switch, lose packets and go, for an hour of
//! virtual time.

#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use rtc_thread::Simulation;
use simulated::crowd::Crowd;
use simulated::{Stage, is_empty};

const HOUR: Duration = Duration::from_secs(3600);
const LAP: Duration = Duration::from_secs(240);
/// What an hour may leave behind in memory: maps that have grown once, and the record of the test.
const MAY_GROW: isize = 512 << 10;

/// The system's allocator, counting what is in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is the system allocator's; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_hour_of_twenty_people_leaves_nothing_behind() {
    let simulation = Simulation::from_env("RTC_SEED");
    let seed = simulation.seed().unwrap();
    println!("RTC_SEED={seed}");
    let wall = Instant::now();
    let stage = Stage::new(simulation);
    let sfu = stage.sfu(|options| {
        options.network_threads = 2;
        options.workers = 2;
    });
    let signaling = sfu.signaling();
    let mut crowd = Crowd::new(&stage, sfu.signaling(), seed, 20);
    let mut in_use_early = None;
    while stage.network.time().elapsed() < HOUR {
        crowd.live(LAP);
        crowd.settle_and_check();
        // An empty house now and then, to be compared.
        if in_use_early.is_none() || stage.network.time().elapsed() > HOUR {
            crowd.go();
            let stats = signaling.stats().wait().unwrap();
            assert!(is_empty(&stats), "{stats:#?}");
            in_use_early.get_or_insert_with(|| IN_USE.load(Ordering::Relaxed));
        }
    }
    let grown = IN_USE.load(Ordering::Relaxed) - in_use_early.unwrap();
    let stats = signaling.stats().wait().unwrap();
    let media: u64 = stats.network.iter().map(|own| own.media_packets_in).sum();
    println!(
        "{} events, {media} media packets, {} steps, {grown} bytes more, in {:?}",
        crowd.trace.len(),
        stage.simulation.steps(),
        wall.elapsed()
    );
    assert!(grown < MAY_GROW, "{grown} bytes more than in the beginning");
    sfu.shutdown().unwrap();
}
