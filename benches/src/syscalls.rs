//! Counts system calls: this program runs itself under `strace`, and says in between, by the name
//! of a file that does not exist, what it is about to do.

use std::process::{Command, Stdio};

use crate::compare::Suite;
use crate::measures::Measures;

const MARK: &str = "/compare-mark/";
const OF_THREAD: &str = " of thread ";

/// Says that what follows, until the next mark, is counted under this name. Nothing is if it is
/// empty. Where nobody watches, it costs one system call and says nothing.
pub(crate) fn mark(section: &str) {
    // Looking for it is the message.
    let _ = std::fs::metadata(format!("{MARK}{section}"));
}

/// The same, of which only the calls of one thread are counted.
pub(crate) fn mark_thread(section: &str, thread: i32) {
    mark(&format!("{section}{OF_THREAD}{thread}"));
}

/// The `probe` command of this program for one system, and nothing else.
pub(crate) fn probe<S: Suite>(
    program: &str,
    options: &[&str],
    system: &str,
    bursts: u32,
) -> Command {
    let mut command = Command::new(program);
    command.args(options);
    match std::env::current_exe() {
        Ok(this) => command.arg(this),
        Err(_) => command.arg("/proc/self/exe"),
    };
    command.args(["probe", S::COMMAND, "--system", system]);
    if bursts > 0 {
        command.args(["--bursts", &bursts.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A part of what is watched: the name it is marked by, and the name of its figure.
pub(crate) type Section = (&'static str, &'static str);

/// System calls of each part, per repetition of it.
pub(crate) fn measure<S: Suite>(
    system: &str,
    sections: &[Section],
    repetitions: u32,
) -> Result<Measures, String> {
    let log = std::env::temp_dir().join(format!("compare-{}.strace", std::process::id()));
    let path = log.to_string_lossy();
    let output = probe::<S>("strace", &["-f", "-o", &path], system, 0)
        .output()
        .map_err(|error| format!("strace does not run ({error}); apt-get install strace"))?;
    let text = std::fs::read_to_string(&log);
    // If it was never made there is nothing to remove.
    let _ = std::fs::remove_file(&log);
    if !output.status.success() {
        return Err(format!("strace failed: {}", last_line(&output.stderr)));
    }
    let text = text.map_err(|error| error.to_string())?;
    Ok(count(&text, sections, repetitions))
}

pub(crate) fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.trim().lines().last().unwrap_or("no output").to_owned()
}

fn count(log: &str, sections: &[Section], repetitions: u32) -> Measures {
    let mut calls = vec![0_u32; sections.len()];
    let (mut section, mut only) = (None, None);
    for line in log.lines() {
        if let Some((_, mark)) = line.split_once(MARK) {
            section = sections.iter().position(|(name, _)| mark.starts_with(name));
            only = mark.split_once(OF_THREAD).and_then(|(_, thread)| {
                let digits = thread.find(|c: char| !c.is_ascii_digit())?;
                Some(&thread[..digits])
            });
        } else if let Some(section) = section
            && only.is_none_or(|thread| line.split_whitespace().next() == Some(thread))
            // The second half of a call that another thread's call came between; the pauses of the
            // measurement itself; and what is no call.
            && !["resumed>", "nanosleep(", "+++", "---"].iter().any(|other| line.contains(other))
        {
            calls[section] += 1;
        }
    }
    let figures = sections
        .iter()
        .zip(calls)
        .map(|((_, name), calls)| (*name, f64::from(calls) / f64::from(repetitions)));
    Measures {
        figures: figures.collect(),
        how: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_between_marks_and_halves_once() {
        let log = r#"
1 write(4, "\1", 8) = 8
1 statx(AT_FDCWD, "/compare-mark/idle round trip", AT_STATX_SYNC_AS_STAT) = -1 ENOENT
1 clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=0, tv_nsec=100000}, 0x7f) = 0
1 write(4, "\1", 8 <unfinished ...>
2 epoll_wait(5,  <unfinished ...>
1 <... write resumed>) = 8
2 <... epoll_wait resumed>[{}], 4, -1) = 1
1 statx(AT_FDCWD, "/compare-mark/", AT_STATX_SYNC_AS_STAT) = -1 ENOENT
1 write(4, "\1", 8) = 8
"#;
        let sections = [("idle round trip", "per round trip"), ("post", "per post")];
        let figures = count(log, &sections, 2).figures;
        assert_eq!(vec![("per round trip", 1.0), ("per post", 0.0)], figures);
    }

    #[test]
    fn counts_one_thread_alone_if_told_so() {
        let log = r#"
1 statx(AT_FDCWD, "/compare-mark/post of thread 12", AT_STATX_SYNC_AS_STAT) = -1 ENOENT
1 write(4, "\1", 8) = 8
12 write(4, "\1", 8) = 8
"#;
        let figures = count(log, &[("post", "per post")], 1).figures;
        assert_eq!(vec![("per post", 1.0)], figures);
    }
}
