//! The programs that tests need: found, else installed, else the command that would install them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The browser.
pub(crate) fn chromium() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| provide("chromium"))
}

/// GStreamer's WHIP client, and the folder that its libraries are to be looked for in first.
pub(crate) fn whip_client() -> (&'static Path, &'static Path) {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    let program = PATH.get_or_init(|| provide("whip-client"));
    let libraries = LIBRARIES.get_or_init(|| provide("no-upnp"));
    (program, libraries)
}

/// A Python interpreter that can import aiortc.
pub(crate) fn python_with_aiortc() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| provide("aiortc"))
}

/// The script prints the path as its last line, and what it does about it on standard error.
fn provide(tool: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/provide-tool");
    let output = Command::new("bash").args([script, tool]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no {tool}:\n{complaint}");
    let said = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(said.lines().last().expect("the path of the tool"))
}
