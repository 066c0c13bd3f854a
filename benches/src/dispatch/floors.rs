//! What no system can beat: two threads that signal each other, written by hand without a queue.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::thread::futex;

use super::workloads::{AWAKE_SAMPLES, LONG_PAUSE, Limits, Workload};
use crate::measures::{Measures, PAUSE, histogram, percentiles};
use crate::{pin, syscalls};

/// A means by which two threads, 0 and 1, wake each other.
trait Signal: Send + Sync + 'static {
    fn notify(&self, to: usize);
    fn wait(&self, me: usize);
}

/// On cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Flag(AtomicU32);

#[derive(Default)]
struct Spin([Flag; 2]);

impl Signal for Spin {
    fn notify(&self, to: usize) {
        self.0[to].0.store(1, Ordering::Release);
    }

    fn wait(&self, me: usize) {
        while self.0[me].0.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
        self.0[me].0.store(0, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Futex([Flag; 2]);

impl Signal for Futex {
    fn notify(&self, to: usize) {
        self.0[to].0.store(1, Ordering::Release);
        let woken = futex::wake(&self.0[to].0, futex::Flags::PRIVATE, 1);
        woken.expect("a futex can be woken");
    }

    fn wait(&self, me: usize) {
        while self.0[me].0.swap(0, Ordering::Acquire) == 0 {
            // It returns an error if the flag has been set meanwhile.
            let _ = futex::wait(&self.0[me].0, futex::Flags::PRIVATE, 0, None);
        }
    }
}

struct EventFd([(OwnedFd, OwnedFd); 2]);

impl EventFd {
    fn new() -> rustix::io::Result<Self> {
        let end = || {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&poll, &event, epoll::EventData::new_u64(0), flags)?;
            Ok::<_, rustix::io::Errno>((event, poll))
        };
        Ok(Self([end()?, end()?]))
    }
}

impl Signal for EventFd {
    fn notify(&self, to: usize) {
        let one = 1_u64.to_ne_bytes();
        rustix::io::write(&self.0[to].0, &one).expect("an eventfd can be written");
    }

    fn wait(&self, me: usize) {
        // Edge-triggered: the eventfd need not be read. Every wait is for one notification.
        let mut events = [MaybeUninit::uninit(); 4];
        while epoll::wait(&self.0[me].1, &mut events[..], None).is_err() {}
    }
}

/// The floors. They are no threads to post to: there is only the round trip.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Floor {
    Spin,
    Futex,
    EventFd,
}

impl Floor {
    pub(crate) fn takes_part(self, workload: Workload) -> bool {
        match workload {
            Workload::AwakePingPong => true,
            Workload::IdlePingPong | Workload::BlockingCall => !matches!(self, Self::Spin),
            Workload::SystemCalls => matches!(self, Self::EventFd),
            _ => false,
        }
    }

    pub(crate) fn run(self, workload: Workload, limits: &Limits) -> Result<Measures, String> {
        let (pauses, samples) = match workload {
            Workload::Bursts(_) => return Ok(Measures::default()),
            Workload::AwakePingPong => ([None; 2], AWAKE_SAMPLES),
            Workload::SystemCalls => ([Some(LONG_PAUSE); 2], limits.samples),
            _ => ([Some(PAUSE), None], limits.samples),
        };
        let limits = Limits { samples, ..*limits };
        let round_trips = match self {
            Self::Spin => ping_pong(Spin::default(), pauses, &limits),
            Self::Futex => ping_pong(Futex::default(), pauses, &limits),
            Self::EventFd => {
                let signal = EventFd::new().map_err(|error| error.to_string())?;
                ping_pong(signal, pauses, &limits)
            }
        };
        Ok(percentiles(&round_trips).into())
    }
}

fn ping_pong(
    signal: impl Signal,
    [pause, second_pause]: [Option<Duration>; 2],
    limits: &Limits,
) -> Histogram<u64> {
    let signal = Arc::new(signal);
    let quit = Arc::new(AtomicU32::new(0));
    let echo = std::thread::spawn({
        let (signal, quit) = (signal.clone(), quit.clone());
        move || {
            pin::to(1);
            loop {
                signal.wait(1);
                if quit.load(Ordering::Relaxed) == 1 {
                    break;
                }
                if let Some(pause) = second_pause {
                    std::thread::sleep(pause);
                }
                signal.notify(0);
            }
        }
    });
    pin::to(0);
    // Once in vain, so that the other thread has started.
    signal.notify(1);
    signal.wait(0);
    let mut round_trips = histogram();
    syscalls::mark("idle round trip");
    let end = Instant::now() + limits.time;
    for _ in 0..limits.samples {
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        let start = Instant::now();
        signal.notify(1);
        signal.wait(0);
        let now = Instant::now();
        round_trips.saturating_record((now - start).as_nanos() as u64);
        if now > end {
            break;
        }
    }
    syscalls::mark("");
    quit.store(1, Ordering::Relaxed);
    signal.notify(1);
    echo.join().expect("it does not panic");
    round_trips
}
