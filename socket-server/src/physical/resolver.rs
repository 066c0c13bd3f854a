//! Resolving names off the thread.
//!
//! The operating system's resolver blocks, for seconds if it must; so it is asked on threads of its
//! own. They are few, shared by all servers of the process, and end when there is nothing to do.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// How many names are resolved at a time.
const MAX_THREADS: usize = 4;
/// How many more may wait.
const MAX_WAITING: usize = 1024;
/// How long a thread without work stays.
const LINGER: Duration = Duration::from_secs(5);

/// What came of a question.
pub(super) struct Answer {
    pub(super) question: u64,
    pub(super) addresses: io::Result<Vec<SocketAddr>>,
}

struct Question {
    number: u64,
    host: String,
    port: u16,
    answers: Sender<Answer>,
    wake: Box<dyn FnOnce() + Send>,
}

struct Pool {
    questions: (Sender<Question>, Receiver<Question>),
    threads: AtomicUsize,
    /// Those of them that wait for a question.
    idle: AtomicUsize,
    last_number: AtomicU64,
}

static POOL: OnceLock<Pool> = OnceLock::new();

/// Asks for the addresses of a host. The answer, with the number that is returned, goes to
/// `answers`; then `wake` is called. Both happen on another thread.
pub(super) fn ask(
    host: String,
    port: u16,
    answers: Sender<Answer>,
    wake: impl FnOnce() + Send + 'static,
) -> io::Result<u64> {
    let pool = POOL.get_or_init(|| Pool {
        questions: bounded(MAX_WAITING),
        threads: AtomicUsize::new(0),
        idle: AtomicUsize::new(0),
        last_number: AtomicU64::new(0),
    });
    let number = pool.last_number.fetch_add(1, Ordering::Relaxed) + 1;
    let question = Question {
        number,
        host,
        port,
        answers,
        wake: Box::new(wake),
    };
    pool.questions
        .0
        .try_send(question)
        .map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => {
                let message = "too many names are being resolved";
                io::Error::new(io::ErrorKind::ResourceBusy, message)
            }
        })?;
    pool.start_thread_if_needed()?;
    Ok(number)
}

impl Pool {
    fn start_thread_if_needed(&'static self) -> io::Result<()> {
        if self.idle.load(Ordering::SeqCst) >= self.questions.1.len() {
            return Ok(());
        }
        let counted = self
            .threads
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |threads| {
                (threads < MAX_THREADS).then_some(threads + 1)
            });
        if counted.is_err() {
            return Ok(());
        }
        let started = std::thread::Builder::new()
            .name("name-resolver".to_owned())
            .spawn(|| self.work());
        if let Err(error) = started {
            // Others may be at work, and come to it.
            if self.threads.fetch_sub(1, Ordering::SeqCst) == 1 {
                return Err(error);
            }
        }
        Ok(())
    }

    fn work(&'static self) {
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let question = self.questions.1.recv_timeout(LINGER);
            self.idle.fetch_sub(1, Ordering::SeqCst);
            if let Ok(question) = question {
                // Somebody who still saw this thread idle may have left another question to it, which
                // must not wait for this one if it need not.
                let _ = self.start_thread_if_needed();
                question.answer();
                continue;
            }
            self.threads.fetch_sub(1, Ordering::SeqCst);
            // Somebody who saw this thread idle may have left a question in the meantime.
            if self.questions.1.is_empty() {
                return;
            }
            self.threads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Question {
    fn answer(self) {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let answer = Answer {
            question: self.number,
            addresses: addresses.map(Iterator::collect),
        };
        // Refused if the server is gone.
        if self.answers.send(answer).is_ok() {
            (self.wake)();
        }
    }
}
