//! Another stack's program, and what it says.

use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::server::collect;
use super::wait::wait_for;

/// A child process whose output is kept. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::default();
        collect(child.stdout.take().unwrap(), &output, |_| {});
        collect(child.stderr.take().unwrap(), &output, |_| {});
        Self {
            name,
            stdin: child.stdin.take(),
            child,
            output,
        }
    }

    /// All the lines so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
            .clone()
    }

    /// Waits until the program has said something, and returns what was made of it.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        wait_for(&format!("{}: {what}", self.name), || {
            let lines = self.output();
            if let Some(found) = find(&lines) {
                return Ok(found);
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            Err(lines.last().cloned())
        })
    }

    /// Ends the program's input, which asks some programs to leave.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Asks it to leave, as Ctrl+C does.
    pub(crate) fn interrupt(&self) {
        // Fails only when it has ended by itself, which its status will tell.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
    }

    /// Has it stand still.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for(&format!("{} ends", self.name), || {
            self.child.try_wait().unwrap().ok_or("it still runs")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.output().join("\n");
            eprintln!("--- {} said ---\n{output}", self.name);
        }
    }
}
