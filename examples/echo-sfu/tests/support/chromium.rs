//! Headless Chromium with a fake camera.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::cdp::Connection;
use super::machine::scratch_path;
use super::tab::Tab;
use super::tools;
use super::wait::wait_for;

const FLAGS: &[&str] = &[
    "--headless=new",
    // Chromium's sandbox wants more than a container, or root, has.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    // What follows keeps it from talking to anything but this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    // Multicast, for casting to televisions and for hiding local addresses.
    "--disable-features=MediaRouter,DialMediaRouteProvider,WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
    // A camera and a microphone that nobody has to allow.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    // Tabs that nobody looks at work as those in front do.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--window-size=1200,900",
    "--remote-debugging-pipe",
];

/// A browser of its own: no profile, no cache, no permission is shared with another one.
#[derive(Debug)]
pub(crate) struct Chromium {
    process: Child,
    connection: Arc<Connection>,
    folder: PathBuf,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let chromium = tools::chromium();
        let folder = scratch_path("chromium");
        fs::create_dir_all(&folder).unwrap();
        let log = File::create(folder.join("log.txt")).unwrap();
        // Chromium wants the pipe at descriptors 3 and 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .arg(chromium.get_program())
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let to_browser = process.stdin.take().unwrap();
        let from_browser = process.stdout.take().unwrap();
        let browser = Self {
            process,
            connection: Arc::new(Connection::new(to_browser, from_browser)),
            folder,
        };
        let version = browser
            .connection
            .call(None, "Browser.getVersion", &json!({}));
        assert!(version.is_ok(), "Chromium does not start: {version:?}");
        browser
    }

    /// Opens a page in a window of its own, with a renderer process and a storage of its own.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) -> Tab {
        Tab::open(Arc::clone(&self.connection), url)
    }

    /// Kills the browser with all its tabs. None of them can say goodbye.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.join("log.txt")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- the last of the browser's log ---\n{}", last.join("\n"));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            return;
        }
        // Its other processes end a moment later, and write until then.
        wait_for("the browser's profile can be removed", || {
            fs::remove_dir_all(&self.folder)
        });
    }
}
