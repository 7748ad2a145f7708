//! What is played, and the servers that have it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::Response;
use kit::origins::{Server, full};

/// Seconds of video, and frames in each.
pub(crate) const SECONDS: usize = 3;
pub(crate) const RATE: usize = 10;

/// A folder of this test alone; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(label: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nicgate-players-{label}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // nginx and VLC run as nobody.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// ffmpeg with a test picture and a tone, in a folder.
pub(crate) fn ffmpeg(folder: &Path, length: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.current_dir(folder).args(["-v", "error", "-nostdin", "-y"]).args(length.split_ascii_whitespace());
    command.args(["-f", "lavfi", "-i", &format!("testsrc=s=160x120:r={RATE}"), "-f", "lavfi", "-i", "sine"]);
    command.args([
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
    ]);
    command.args(["-g", &RATE.to_string(), "-c:a", "aac", "-t", &SECONDS.to_string()]).args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: `cargo xtask setup`"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `cam/ts.m3u8` (HLS with MPEG-TS), `cam/master.m3u8` (HLS of several playlists, with fragmented MP4) and
/// `cam/all.mpd` (DASH).
pub(crate) fn make(folder: &Path) {
    let cam = folder.join("cam");
    fs::create_dir_all(&cam).unwrap();
    run(&mut ffmpeg(&cam, "", &["-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod", "ts.m3u8"]));
    run(&mut ffmpeg(&cam, "", &["-f", "dash", "-seg_duration", "1", "-hls_playlist", "1", "all.mpd"]));
}

/// nginx serving a folder, and taking what is put there.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) root: PathBuf,
    log: PathBuf,
    _folder: Folder,
}

impl Nginx {
    pub(crate) fn start(label: &str) -> Self {
        let folder = Folder::new(&format!("nginx-{label}"));
        let root = folder.path().join("www");
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        // Another process can take the port in between: then it is another one.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let path = |name: &str| folder.path().join(name).display().to_string();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path {};\n", path(name)))
                .collect();
            let configuration = format!(
                "daemon off; pid {}; worker_processes 1;\nevents {{ }}\nhttp {{ include /etc/nginx/mime.types;\n\
                 log_format short '$status $request'; access_log {} short;\n{temporary}\
                 server {{ listen {address}; root {}; client_max_body_size 0; dav_methods PUT DELETE;\n\
                 create_full_put_path on; }} }}\n",
                path("pid"),
                path("access"),
                root.display(),
            );
            fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
            let mut process = Command::new("nginx")
                .args(["-e", &path("error"), "-c", &path("nginx.conf")])
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("nginx: {error}: `cargo xtask setup`"));
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) && process.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    let log = folder.path().join("access");
                    return Self { process, address, root, log, _folder: folder };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("nginx does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has answered: the status and the request line of each.
    pub(crate) fn answered(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: its worker goes with it.
        // SAFETY: takes numbers only, and the process is a child that has not been waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.process.wait();
    }
}

/// A server of files that writes tokens into its playlists itself, as Flussonic does: the one that it was asked with, or
/// one of its own; without the one that belongs to a playlist it gives no segment.
pub(crate) async fn flussonic(files: PathBuf) -> Server {
    Server::noting(move |seen| {
        let path = seen.target.split('?').next().unwrap_or_default();
        let token = seen.parameter("token");
        let Ok(bytes) = fs::read(files.join(path.trim_start_matches('/'))) else {
            return Response::builder().status(404).body(full("")).unwrap();
        };
        if !path.ends_with(".m3u8") {
            let status = if token.is_some() { 200 } else { 403 };
            return Response::builder().status(status).body(full(bytes)).unwrap();
        }
        let token = token.unwrap_or_else(|| "flussonics-own".to_owned());
        let list = String::from_utf8(bytes).unwrap();
        let lines = list.lines().map(|line| match line.split_once("URI=\"") {
            _ if line.is_empty() => String::new(),
            Some((before, rest)) => {
                let (uri, after) = rest.split_once('"').unwrap();
                format!("{before}URI=\"{uri}?token={token}\"{after}")
            }
            None if line.starts_with('#') => line.to_owned(),
            None => format!("{line}?token={token}"),
        });
        let list = lines.collect::<Vec<_>>().join("\n") + "\n";
        Response::builder().header("content-type", "application/vnd.apple.mpegurl").body(full(list)).unwrap()
    })
    .await
}
