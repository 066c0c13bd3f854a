//! What every thread does when, as a file for a trace viewer.
//!
//! Off, it costs a post one load of a flag. On, each posted task is wrapped into one that notes who
//! posted it and when it ran.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::current;
use crate::task::Task;

static IS_ON: AtomicBool = AtomicBool::new(false);
static RECORDING: Mutex<Option<Recording>> = Mutex::new(None);

struct Recording {
    start: Instant,
    max_tasks: usize,
    dropped: u64,
    runs: Vec<Run>,
    names: BTreeMap<u64, String>,
}

struct Run {
    posted_by: u64,
    posted_at: Duration,
    location: &'static Location<'static>,
    thread: u64,
    started_at: Duration,
    took: Duration,
}

/// A recording of all tasks, on all threads, that are posted while it lives.
///
/// libwebrtc: `rtc_event_trace`, `TRACE_EVENT`.
///
/// ```
/// use rtc_thread::{Thread, TraceRecorder};
///
/// let thread = Thread::builder().name("worker").spawn()?;
/// let recorder = TraceRecorder::start(1_000_000)?;
/// thread.post(|| println!("seen"))?;
/// thread.blocking_call(|| ())?;
/// let trace = recorder.stop();
/// let mut json = Vec::new();
/// trace.write_to(&mut json)?; // a file for https://ui.perfetto.dev or chrome://tracing
/// assert!(trace.tasks() >= 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the recording ends where this is dropped"]
pub struct TraceRecorder {
    is_stopped: bool,
}

/// There is a recording already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadyRecording;

impl fmt::Display for AlreadyRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tasks are being recorded already")
    }
}

impl Error for AlreadyRecording {}

impl TraceRecorder {
    /// Starts recording, of at most so many tasks; those after that are counted only.
    ///
    /// # Errors
    ///
    /// There is a recording already.
    pub fn start(max_tasks: usize) -> Result<Self, AlreadyRecording> {
        let mut recording = RECORDING.lock();
        if recording.is_some() {
            return Err(AlreadyRecording);
        }
        *recording = Some(Recording {
            start: Instant::now(),
            max_tasks,
            dropped: 0,
            runs: Vec::new(),
            names: BTreeMap::new(),
        });
        IS_ON.store(true, Ordering::Release);
        Ok(Self { is_stopped: false })
    }

    /// Ends the recording. Tasks that were posted and have not run by now are not in it.
    pub fn stop(mut self) -> Trace {
        self.is_stopped = true;
        Trace {
            recording: take_recording().expect("it is there while a recorder lives"),
        }
    }
}

impl Drop for TraceRecorder {
    fn drop(&mut self) {
        if !self.is_stopped {
            drop(take_recording());
        }
    }
}

impl fmt::Debug for TraceRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceRecorder")
    }
}

fn take_recording() -> Option<Recording> {
    let mut recording = RECORDING.lock();
    IS_ON.store(false, Ordering::Release);
    recording.take()
}

/// Where a task is posted or runs: one of our threads by its number, another by one beyond them.
fn here() -> (u64, String) {
    const FIRST_FOREIGN: u64 = 1 << 32;
    static NEXT: AtomicU64 = AtomicU64::new(FIRST_FOREIGN);
    thread_local! {
        static FOREIGN: Cell<Option<u64>> = const { Cell::new(None) };
    }
    if let Some(thread) = current() {
        return (thread.id().get(), thread.name().to_owned());
    }
    let number = FOREIGN.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        FOREIGN.set(Some(number));
        number
    });
    let name = std::thread::current()
        .name()
        .unwrap_or("unnamed")
        .to_owned();
    (number, name)
}

/// Whether tasks are to be [wrapped](posted) on their way into a queue.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Every task passes here on its way into a queue, unless nothing is recorded.
#[inline]
pub(crate) fn posted(task: Task) -> Task {
    if is_on() { wrap(task) } else { task }
}

#[cold]
fn wrap(task: Task) -> Task {
    let location = task.location();
    let posted_at = Instant::now();
    let (posted_by, name) = here();
    if let Some(recording) = &mut *RECORDING.lock() {
        recording.names.insert(posted_by, name);
    }
    let traced = move || {
        let _note = Note {
            posted_by,
            posted_at,
            location,
            started_at: Instant::now(),
        };
        task.run();
    };
    Task::new(traced).with_location(location)
}

/// Notes a run when it ends, by a panic or otherwise.
struct Note {
    posted_by: u64,
    posted_at: Instant,
    location: &'static Location<'static>,
    started_at: Instant,
}

impl Drop for Note {
    fn drop(&mut self) {
        let took = self.started_at.elapsed();
        let (thread, name) = here();
        let mut recording = RECORDING.lock();
        let Some(recording) = &mut *recording else {
            return;
        };
        recording.names.insert(thread, name);
        if recording.runs.len() == recording.max_tasks {
            recording.dropped += 1;
            return;
        }
        let since_start = |at: Instant| at.saturating_duration_since(recording.start);
        let run = Run {
            posted_by: self.posted_by,
            posted_at: since_start(self.posted_at),
            location: self.location,
            thread,
            started_at: since_start(self.started_at),
            took,
        };
        recording.runs.push(run);
    }
}

/// What was recorded.
pub struct Trace {
    recording: Recording,
}

impl Trace {
    /// How many tasks are in it.
    pub fn tasks(&self) -> usize {
        self.recording.runs.len()
    }

    /// How many there was no room for.
    pub fn dropped(&self) -> u64 {
        self.recording.dropped
    }

    /// Writes it in the Chrome trace format (JSON), which Perfetto and Chrome show: a line for each
    /// thread, a slice for each task, named after the place that posted it, and an arrow from there
    /// to the slice.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(to, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        let mut separator = "";
        let recording = &self.recording;
        for (thread, name) in &recording.names {
            let name = Escaped(name);
            writeln!(
                to,
                "{separator}{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":{thread},\
                 \"args\":{{\"name\":\"{name}\"}}}}"
            )?;
            separator = ",";
        }
        for (flow, run) in recording.runs.iter().enumerate() {
            let (file, line) = (run.location.file(), run.location.line());
            let name = Escaped(file.rsplit(['/', '\\']).next().unwrap_or(file));
            let (thread, by) = (run.thread, run.posted_by);
            let (posted, started, took) = (
                Micros(run.posted_at),
                Micros(run.started_at),
                Micros(run.took),
            );
            writeln!(
                to,
                ",{{\"ph\":\"X\",\"name\":\"{name}:{line}\",\"cat\":\"task\",\"pid\":1,\
                 \"tid\":{thread},\"ts\":{started},\"dur\":{took},\
                 \"args\":{{\"posted_at\":\"{}:{line}\"}}}}",
                Escaped(file)
            )?;
            // A flow is drawn between slices, so the post has a small one of its own.
            writeln!(
                to,
                ",{{\"ph\":\"X\",\"name\":\"post\",\"cat\":\"post\",\"pid\":1,\"tid\":{by},\
                 \"ts\":{posted},\"dur\":0.001}}\n\
                 ,{{\"ph\":\"s\",\"name\":\"post\",\"cat\":\"post\",\"id\":{flow},\"pid\":1,\
                 \"tid\":{by},\"ts\":{posted}}}\n\
                 ,{{\"ph\":\"f\",\"bp\":\"e\",\"name\":\"post\",\"cat\":\"post\",\"id\":{flow},\
                 \"pid\":1,\"tid\":{thread},\"ts\":{started}}}"
            )?;
        }
        writeln!(to, "]}}")
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("tasks", &self.tasks())
            .field("dropped", &self.dropped())
            .finish()
    }
}

/// Microseconds, as the format counts time.
struct Micros(Duration);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        write!(f, "{}.{:03}", nanos / 1000, nanos % 1000)
    }
}

/// A string inside a JSON string.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}
