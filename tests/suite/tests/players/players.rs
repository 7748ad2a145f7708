//! The players: each plays an address as fast as it can, and says how many frames it got.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

/// A player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Player {
    Ffprobe,
    GStreamer,
    Vlc,
}

/// Longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn output(mut command: Command) -> Output {
    command.stdin(std::process::Stdio::null());
    let shown = format!("{command:?}");
    // In a thread of its own: the gate runs in this process.
    let finished = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(PATIENCE, finished).await.unwrap_or_else(|_| panic!("{shown} hangs"));
    output.unwrap().unwrap_or_else(|error| panic!("{shown}: {error}: `cargo xtask setup`"))
}

/// The frames of the first video track; 0 when it cannot be played.
async fn frames(url: &str) -> usize {
    let mut command = Command::new("timeout");
    command.args(["50", "ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0"]);
    command.args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", url]);
    let output = output(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().and_then(|line| line.trim_matches(',').parse().ok()).unwrap_or(0)
}

impl Player {
    /// Plays an address to its end, and says how many frames of video came.
    pub(crate) async fn play(self, url: &str, folder: &Path) -> usize {
        match self {
            Self::Ffprobe => frames(url).await,
            Self::GStreamer => {
                let demuxer = if url.contains(".mpd") { "dashdemux" } else { "hlsdemux" };
                let container = if url.contains("ts.m3u8") { "tsdemux" } else { "qtdemux" };
                let mut command = Command::new("timeout");
                command.args(["50", "gst-launch-1.0", "-v", "souphttpsrc", &format!("location={url}"), "!"]);
                command.args([demuxer, "!", container, "!", "h264parse", "!", "avdec_h264", "!"]);
                command.args(["fakesink", "silent=false", "sync=false"]);
                let output = output(command).await;
                String::from_utf8_lossy(&output.stdout).matches("last-message = chain").count()
            }
            Self::Vlc => {
                let kept = folder.join("vlc.ts");
                let _ = std::fs::remove_file(&kept);
                let mut command = Command::new("timeout");
                // It does not run as root.
                command.args([
                    "50",
                    "setpriv",
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                    "cvlc",
                    "-q",
                ]);
                command.args(["--play-and-exit", "--sout"]).env("HOME", folder);
                command.args([&format!("#std{{access=file,mux=ts,dst={}}}", kept.display()), url]);
                output(command).await;
                frames(&kept.display().to_string()).await
            }
        }
    }
}
