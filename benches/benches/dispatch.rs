//! What it costs to have a closure run on another thread.
//!
//! `cargo bench -p benches`. Read ratios, not absolute values: a wake-up of a sleeping core costs
//! tens of microseconds on some virtual machines, whatever the software does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Sender, bounded, unbounded};
use rtc_thread::{Thread, ThreadHandle, WaitStrategy};

/// Tasks in one burst.
const BURST: u64 = 100_000;

/// One poster, no waiting for results: how fast tasks go through.
fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(BURST));
    for (name, thread) in threads() {
        group.bench_function(format!("rtc-thread, {name}"), |bencher| {
            bencher.iter(|| {
                for n in 0..BURST {
                    // Four words: what a packet's task captures, or so.
                    let captures = [n; 4];
                    let task = move || {
                        black_box(captures);
                    };
                    thread.post(task).expect("the thread runs");
                }
                thread.blocking_call(|| ()).expect("the thread runs");
            });
        });
    }
    group.bench_function("crossbeam-channel, boxed closures", |bencher| {
        let (sender, receiver) = unbounded::<Box<dyn FnOnce() + Send>>();
        let runner = std::thread::spawn(move || receiver.iter().for_each(|task| task()));
        bencher.iter(|| {
            for n in 0..BURST {
                let captures = [n; 4];
                let task = move || {
                    black_box(captures);
                };
                sender.send(Box::new(task)).expect("the thread runs");
            }
            let (done, wait) = bounded(1);
            sender
                .send(Box::new(move || done.send(()).expect("the poster waits")))
                .expect("the thread runs");
            wait.recv().expect("the task ran");
        });
        drop(sender);
        runner.join().expect("no task panics");
    });
    group.finish();
}

/// Four posters at once.
fn four_posters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("throughput, four posters");
    group.throughput(Throughput::Elements(BURST));
    for (name, thread) in threads() {
        group.bench_function(format!("rtc-thread, {name}"), |bencher| {
            bencher.iter(|| {
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| {
                            for n in 0..BURST / 4 {
                                let captures = [n; 4];
                                let task = move || {
                                    black_box(captures);
                                };
                                thread.post(task).expect("the thread runs");
                            }
                        });
                    }
                });
                thread.blocking_call(|| ()).expect("the thread runs");
            });
        });
    }
    group.finish();
}

/// A task on one thread posts to another, which posts back.
fn ping_pong(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ping-pong between two threads");
    let spin = WaitStrategy::SpinThenPark(Duration::from_millis(1));
    for (name, strategy) in [("park", WaitStrategy::Park), ("spin, then park", spin)] {
        let start = || Thread::builder().wait_strategy(strategy).spawn();
        let [one, two] = [start().expect("a thread"), start().expect("a thread")];
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let (done, wait) = bounded(1);
                let start = Instant::now();
                ping(2 * iterations, one.handle(), two.handle(), done);
                wait.recv().expect("the last ping says so");
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn ping(left: u64, here: ThreadHandle, there: ThreadHandle, done: Sender<()>) {
    let next = here.clone();
    let pong = move || {
        if left == 0 {
            done.send(()).expect("somebody waits");
        } else {
            // Half a round trip each way.
            ping(left - 1, there, here, done);
        }
    };
    next.post(pong).expect("the thread runs");
}

/// There and back again, both sides asleep in between.
fn blocking_call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("blocking call");
    for (name, thread) in threads() {
        group.bench_function(format!("rtc-thread, {name}"), |bencher| {
            bencher.iter(|| thread.blocking_call(|| black_box(1)));
        });
    }
    group.bench_function("std park and unpark", |bencher| {
        let (sender, receiver) = bounded::<std::thread::Thread>(1);
        let answerer = std::thread::spawn(move || {
            while let Ok(caller) = receiver.recv() {
                caller.unpark();
            }
        });
        bencher.iter(|| {
            sender
                .send(std::thread::current())
                .expect("the thread runs");
            std::thread::park();
        });
        drop(sender);
        answerer.join().expect("it does not panic");
    });
    group.finish();
}

/// Adding a timer to very many, and taking it out again.
fn timers(criterion: &mut Criterion) {
    let thread = Thread::builder().spawn().expect("a thread");
    let far = Duration::from_secs(3600);
    // All are due at about the same time, which is the worst case of a heap.
    let pending: Vec<_> = (0..1_000_000)
        .map(|_| thread.post_delayed(far, || ()).expect("it runs"))
        .collect();
    let mut group = criterion.benchmark_group("a million timers pending");
    group.bench_function("insert", |bencher| {
        bencher.iter_custom(|iterations| {
            let start = Instant::now();
            let added: Vec<_> = (0..iterations)
                .map(|_| thread.post_delayed(far, || ()))
                .collect();
            let elapsed = start.elapsed();
            for timer in added {
                timer.expect("the thread runs").cancel();
            }
            elapsed
        });
    });
    group.bench_function("insert and cancel", |bencher| {
        bencher.iter(|| {
            thread
                .post_delayed(far, || ())
                .expect("the thread runs")
                .cancel()
        });
    });
    group.finish();
    drop(pending);
}

fn threads() -> [(&'static str, Thread); 2] {
    [
        (
            "without sockets",
            Thread::builder().spawn().expect("a thread"),
        ),
        (
            "with sockets",
            Thread::builder().with_sockets().spawn().expect("a thread"),
        ),
    ]
}

criterion_group!(
    benches,
    throughput,
    four_posters,
    ping_pong,
    blocking_call,
    timers
);
criterion_main!(benches);
