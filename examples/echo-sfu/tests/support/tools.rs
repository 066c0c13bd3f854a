//! The programs that tests need: found, else installed, else the command that would install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::machine::scratch;

const SUPPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support");

/// The browser.
pub(crate) fn chromium() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PATH.get_or_init(|| provide("chromium")))
}

/// GStreamer's WHIP client, kept from looking for routers.
pub(crate) fn whip_client() -> Command {
    static PATHS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (program, libraries) = PATHS.get_or_init(|| (provide("whip-client"), build_no_upnp()));
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", libraries);
    command
}

/// Python with aiortc, running one of the scripts beside this file.
pub(crate) fn python(script: &str) -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PATH.get_or_init(|| provide("aiortc")));
    command.arg(Path::new(SUPPORT).join(script));
    command
}

/// ffmpeg, saying no more than it must.
pub(crate) fn ffmpeg() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PATH.get_or_init(|| provide("ffmpeg")));
    command.args(["-hide_banner", "-nostdin", "-loglevel", "warning"]);
    command
}

/// A pipeline of GStreamer's.
pub(crate) fn gstreamer(pipeline: &str) -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PATH.get_or_init(|| provide("gstreamer")));
    command.arg("-v").args(pipeline.split_whitespace());
    command
}

fn provide(tool: &str) -> PathBuf {
    let output = Command::new("bash")
        .arg(Path::new(SUPPORT).join("provide-tool"))
        .arg(tool)
        .env("CARGO_TARGET_DIR", scratch().parent().unwrap())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no {tool}: {complaint}");
    let said = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(said.lines().last().expect("the path of the tool"))
}

/// Makes a folder with a library that libnice takes for its UPnP library, under the names it has in
/// the distributions.
fn build_no_upnp() -> PathBuf {
    let folder = scratch().join("no-upnp");
    fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libgupnp-igd-1.0.so.4");
    let status = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
        .arg(&library)
        .arg(Path::new(SUPPORT).join("no_upnp.rs"))
        .status()
        .unwrap();
    assert!(status.success(), "rustc: {status}");
    fs::copy(&library, folder.join("libgupnp-igd-1.6.so.0")).unwrap();
    folder
}
