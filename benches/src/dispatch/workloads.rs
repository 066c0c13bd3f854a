//! What the systems are made to do. Each function here is one measurement of one system; who calls
//! them, how often and in which order is not known here.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::measures::{Measures, PAUSE, histogram, percentiles};
use crate::peers::{Handle, Peer, Timers, on_thread};
use crate::{allocations, pin, syscalls};

/// The same under strace, which makes everything slow. Both sides pause there: an answer that comes
/// while the asker is still on its way to sleep takes fewer system calls.
pub(crate) const LONG_PAUSE: Duration = Duration::from_millis(1);

/// Round trips at most, where nobody pauses.
pub(crate) const AWAKE_SAMPLES: u32 = 20_000;

/// Tasks of one burst, where bursts are repeated.
pub(crate) const BURST: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    IdlePingPong,
    AwakePingPong,
    Post,
    OnePoster,
    FourPosters,
    BlockingCall,
    TimerCost,
    TimerLateness,
    Allocations,
    /// Under `strace`, which is what counts; see [`syscalls`].
    SystemCalls,
    /// As many bursts; what counts is outside.
    Bursts(u32),
}

/// How much of everything one measurement does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Round trips, calls or posts of which each is timed.
    pub(crate) samples: u32,
    /// They end after this time in any case.
    pub(crate) time: Duration,
    /// Tasks of a throughput measurement.
    pub(crate) tasks: u32,
    /// Timers that stay pending.
    pub(crate) pending: u32,
    /// Timers that run, and over which time.
    pub(crate) timers: u32,
    pub(crate) timers_over: Duration,
}

/// Measures one system, on fresh threads.
pub(crate) fn run<P: Peer>(
    workload: Workload,
    limits: &Limits,
    start: impl Fn() -> Result<P, String>,
) -> Result<Measures, String> {
    match workload {
        Workload::IdlePingPong => Ok(percentiles(&ping_pong(
            &start()?,
            &start()?,
            [Some(PAUSE), None],
            limits,
        ))
        .into()),
        Workload::AwakePingPong => {
            let samples = AWAKE_SAMPLES;
            let limits = Limits { samples, ..*limits };
            Ok(percentiles(&ping_pong(&start()?, &start()?, [None, None], &limits)).into())
        }
        Workload::Post => Ok(post(&start()?, limits)),
        Workload::OnePoster => Ok(throughput(&start()?, 1, limits)),
        Workload::FourPosters => Ok(throughput(&start()?, 4, limits)),
        Workload::BlockingCall => Ok(blocking_call(&start()?, limits)),
        Workload::TimerCost => timer_cost(&start()?, limits),
        Workload::TimerLateness => timer_lateness(&start()?, limits),
        Workload::Allocations => Ok(count_allocations(&start()?)),
        Workload::SystemCalls => {
            system_calls(&start()?, &start()?, limits);
            Ok(Measures::default())
        }
        Workload::Bursts(bursts) => {
            let (peer, gate) = (start()?, Arc::new(Barrier::new(2)));
            (0..bursts).for_each(|_| burst(&peer.handle(), &gate));
            Ok(Measures::default())
        }
    }
}

/// The peer on one core, the caller on the other.
fn pinned<P: Peer>(peer: &P) -> P::Handle {
    let handle = peer.handle();
    on_thread(&handle, |_| pin::to(1));
    pin::to(0);
    handle
}

/// A task, over and over, on the first thread: posts to the second, which posts back.
struct Game<H: 'static> {
    first: &'static H,
    second: &'static H,
    pause: Option<Duration>,
    /// Before the answer.
    second_pause: Option<Duration>,
    left: u32,
    end: Instant,
    round_trips: Histogram<u64>,
    done: SyncSender<Histogram<u64>>,
}

fn play<H: Handle>(mut game: Box<Game<H>>) {
    if game.left == 0 || Instant::now() > game.end {
        syscalls::mark("");
        game.done.send(game.round_trips).expect("somebody waits");
        return;
    }
    game.left -= 1;
    if let Some(pause) = game.pause {
        std::thread::sleep(pause);
    }
    let start = Instant::now();
    game.second.post(move || {
        if let Some(pause) = game.second_pause {
            std::thread::sleep(pause);
        }
        game.first.post(move || {
            let round_trip = start.elapsed().as_nanos() as u64;
            game.round_trips.saturating_record(round_trip);
            play(game);
        });
    });
}

fn ping_pong<P: Peer>(
    first: &P,
    second: &P,
    [pause, second_pause]: [Option<Duration>; 2],
    limits: &Limits,
) -> Histogram<u64> {
    // Leaked, a few bytes each: a clone for every turn would be part of what is measured.
    let [first, second] = [first, second].map(|peer| &*Box::leak(Box::new(peer.handle())));
    on_thread(first, |_| pin::to(0));
    on_thread(second, |_| pin::to(1));
    let (done, wait) = sync_channel(1);
    let game = Box::new(Game {
        first,
        second,
        pause,
        second_pause,
        left: limits.samples,
        end: Instant::now() + limits.time,
        round_trips: histogram(),
        done,
    });
    first.post(move || {
        syscalls::mark("idle round trip");
        play(game);
    });
    wait.recv().expect("the game ends")
}

/// Keeps the thread busy, spinning, until it is told to go on.
fn occupy<H: Handle>(handle: &H) -> Arc<AtomicBool> {
    let release = Arc::new(AtomicBool::new(false));
    let barrier = Arc::new(Barrier::new(2));
    handle.post({
        let (release, barrier) = (release.clone(), barrier.clone());
        move || {
            barrier.wait();
            while !release.load(Ordering::Acquire) {
                spin_loop();
            }
        }
    });
    barrier.wait();
    release
}

fn post<P: Peer>(peer: &P, limits: &Limits) -> Measures {
    const BATCHES: u64 = 50;
    const BATCH: u64 = 100;
    let handle = pinned(peer);
    let (mut latencies, mut asleep, mut busy) = (histogram(), histogram(), histogram());
    let ran_after = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + limits.time;
    for _ in 0..limits.samples {
        std::thread::sleep(PAUSE);
        let slot = ran_after.clone();
        let start = Instant::now();
        handle.post(move || {
            let after = start.elapsed().as_nanos().max(1) as u64;
            slot.store(after, Ordering::Release);
        });
        asleep.saturating_record(start.elapsed().as_nanos() as u64);
        let latency = loop {
            match ran_after.swap(0, Ordering::Acquire) {
                0 => std::thread::yield_now(),
                latency => break latency,
            }
        };
        latencies.saturating_record(latency);
        if Instant::now() > end {
            break;
        }
    }
    let release = occupy(&handle);
    for _ in 0..BATCHES {
        let start = Instant::now();
        post_tasks(&handle, BATCH as u32);
        busy.saturating_record(start.elapsed().as_nanos() as u64);
    }
    release.store(true, Ordering::Release);
    handle.blocking_call();
    let [p50, p99] = percentiles(&latencies);
    [
        p50,
        p99,
        (
            "post, asleep µs",
            asleep.value_at_quantile(0.5) as f64 / 1e3,
        ),
        (
            "post, busy ns",
            busy.value_at_quantile(0.5) as f64 / BATCH as f64,
        ),
    ]
    .into()
}

/// How many of the small tasks have run.
static RUN: AtomicU64 = AtomicU64::new(0);

/// Posts small tasks: they capture four words, and count.
fn post_tasks<H: Handle>(handle: &H, count: u32) {
    for n in 0..u64::from(count) {
        let captures = [n; 4];
        handle.post(move || {
            black_box(captures);
            // Only one thread counts at a time.
            RUN.store(RUN.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        });
    }
}

/// The second of two runs: queues and allocators have the memory by then that they go on with.
fn throughput<P: Peer>(peer: &P, posters: u32, limits: &Limits) -> Measures {
    let handle = peer.handle();
    if posters == 1 {
        on_thread(&handle, |_| pin::to(1));
    }
    post_and_run(&handle, posters, limits);
    [("M tasks/s", post_and_run(&handle, posters, limits))].into()
}

fn post_and_run<H: Handle>(handle: &H, posters: u32, limits: &Limits) -> f64 {
    let each = limits.tasks / posters;
    let all = u64::from(each * posters);
    handle.blocking_call();
    let barrier = Barrier::new(posters as usize + 1);
    let before = RUN.load(Ordering::Acquire);
    let start = std::thread::scope(|scope| {
        for _ in 0..posters {
            scope.spawn(|| {
                if posters == 1 {
                    pin::to(0);
                }
                barrier.wait();
                post_tasks(handle, each);
            });
        }
        let start = Instant::now();
        barrier.wait();
        start
    });
    // Everything has been posted, so that this runs last; or nearly, where order is not promised.
    handle.blocking_call();
    while RUN.load(Ordering::Acquire) - before < all {
        std::thread::yield_now();
    }
    all as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn blocking_call<P: Peer>(peer: &P, limits: &Limits) -> Measures {
    let handle = pinned(peer);
    let mut calls = histogram();
    let end = Instant::now() + limits.time;
    for _ in 0..limits.samples {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        handle.blocking_call();
        let now = Instant::now();
        calls.saturating_record((now - start).as_nanos() as u64);
        if now > end {
            break;
        }
    }
    Measures {
        how: (!P::Handle::HAS_BLOCKING_CALL).then_some("post and reply"),
        ..percentiles(&calls).into()
    }
}

/// Far away, and in no order: an hour and up to an hour more.
fn far(n: u32) -> Duration {
    Duration::from_secs(3_600)
        + Duration::from_micros(u64::from(n.wrapping_mul(0x9e37_79b1)) % 3_600_000_000)
}

fn add_timers<H: Handle>(handle: &H, count: u32) -> (f64, Vec<H::Timer>) {
    let mut timers = Vec::with_capacity(count as usize);
    let start = Instant::now();
    timers.extend((0..count).map(|n| {
        let captures = [u64::from(n); 4];
        handle.post_delayed(far(n), move || {
            black_box(captures);
        })
    }));
    let each = start.elapsed().as_nanos() as f64 / f64::from(count);
    (each, timers)
}

/// Where the system allows to use its timers.
fn with_timers<H: Handle, R: Send + 'static>(
    handle: &H,
    f: impl FnOnce(&H) -> R + Send + 'static,
) -> Result<R, String> {
    match H::TIMERS {
        Timers::No => Err("has no timers".into()),
        Timers::Anywhere => Ok(f(handle)),
        Timers::OwnThread => Ok(on_thread(handle, f)),
    }
}

fn timer_cost<P: Peer>(peer: &P, limits: &Limits) -> Result<Measures, String> {
    const MORE: u32 = 20_000;
    let handle = pinned(peer);
    let pending = limits.pending;
    let before = allocations::heap_bytes();
    let (first, timers) = with_timers(&handle, move |handle| add_timers(handle, pending))?;
    handle.blocking_call();
    let added = allocations::heap_bytes() - before;
    let (more, more_timers) = with_timers(&handle, |handle| add_timers(handle, MORE))?;
    let mut measures = Measures::from([
        ("insert ns, at a million", more),
        ("insert ns, mean to there", first),
        ("bytes each", added / f64::from(pending)),
    ]);
    measures.how = (P::Handle::TIMERS == Timers::OwnThread).then_some("on its own thread only");
    if P::Handle::CANCELS {
        let each = with_timers(&handle, move |_| {
            let start = Instant::now();
            timers
                .into_iter()
                .chain(more_timers)
                .for_each(P::Handle::cancel);
            start.elapsed().as_nanos() as f64 / f64::from(pending + MORE)
        })?;
        // Twice, for systems that free what is cancelled at a later turn.
        handle.blocking_call();
        handle.blocking_call();
        let left = allocations::heap_bytes() - before;
        measures.figures.extend([
            ("cancel ns", each),
            ("left % of bytes", (left / added * 100.0).max(0.0)),
        ]);
    } else {
        measures.how = Some("cannot cancel");
    }
    Ok(measures)
}

fn timer_lateness<P: Peer>(peer: &P, limits: &Limits) -> Result<Measures, String> {
    let handle = pinned(peer);
    let (count, over) = (limits.timers, limits.timers_over);
    let (done, all_ran) = channel::<()>();
    let lateness = Arc::new(Mutex::new(Vec::with_capacity(count as usize)));
    let collected = lateness.clone();
    let timers = with_timers(&handle, move |handle| {
        let start = Instant::now();
        let add = |n| {
            // The step is no whole number of milliseconds: rounding up to those is part of what is
            // measured. It starts a little later, so that adding them does not make them late.
            let at = start
                + Duration::from_millis(20)
                + over * n / count
                + Duration::from_nanos(u64::from(n) * 7_919);
            let (lateness, done) = (collected.clone(), done.clone());
            handle.post_delayed(at.saturating_duration_since(Instant::now()), move || {
                let now = Instant::now();
                let late = now.saturating_duration_since(at).as_nanos() as f64;
                let early = at.saturating_duration_since(now).as_nanos() as f64;
                let mut all = lateness.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((late - early) / 1e3);
                drop(done);
            })
        };
        (0..count).map(add).collect::<Vec<_>>()
    })?;
    // Nothing is ever sent: it ends when the last task has dropped its sender.
    let _ = all_ran.recv();
    // Still there, for systems that would cancel a timer whose name is dropped.
    drop(timers);
    let mut all = std::mem::take(&mut *lateness.lock().unwrap_or_else(PoisonError::into_inner));
    all.sort_unstable_by(f64::total_cmp);
    let early = all.partition_point(|&late| late < 0.0);
    let at = |quantile: f64| all[((all.len() - 1) as f64 * quantile).round() as usize];
    Ok([
        ("p50 µs", at(0.5)),
        ("p99 µs", at(0.99)),
        ("early %", early as f64 / all.len() as f64 * 100.0),
        ("earliest µs", (-all[0]).max(0.0)),
    ]
    .into())
}

/// Posts to a thread that does something else, then lets it run them.
fn burst<H: Handle>(handle: &H, gate: &Arc<Barrier>) {
    let there = gate.clone();
    handle.post(move || {
        there.wait();
        // Blocked, not spinning: instructions are counted.
        there.wait();
    });
    gate.wait();
    post_tasks(handle, BURST);
    gate.wait();
    handle.blocking_call();
}

fn count_allocations<P: Peer>(peer: &P) -> Measures {
    const BURSTS: u32 = 20;
    let handle = pinned(peer);
    let gate = Arc::new(Barrier::new(2));
    // The queue grows to its size.
    burst(&handle, &gate);
    let all = allocations::during(|| (0..BURSTS).for_each(|_| burst(&handle, &gate)));
    [("per post", all as f64 / f64::from(BURSTS * BURST))].into()
}

fn system_calls<P: Peer>(first: &P, second: &P, limits: &Limits) {
    let handle = second.handle();
    handle.blocking_call();
    ping_pong(first, second, [Some(LONG_PAUSE); 2], limits);
    std::thread::sleep(PAUSE * 100);
    syscalls::mark("post, asleep");
    for _ in 0..limits.samples {
        post_tasks(&handle, 1);
        std::thread::sleep(LONG_PAUSE);
    }
    syscalls::mark("");
    let release = occupy(&handle);
    syscalls::mark("post, busy");
    post_tasks(&handle, limits.samples);
    syscalls::mark("");
    release.store(true, Ordering::Release);
    handle.blocking_call();
}
