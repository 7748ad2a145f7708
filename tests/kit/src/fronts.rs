//! Proxies of other make in front of a gate: HAProxy and nginx, from Debian's packages.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::wait::PATIENCE;

/// How often another port is tried: somebody else can take one between the choice and its use.
const TRIES: usize = 5;

/// A proxy that ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Drop for Front {
    fn drop(&mut self) {
        // It is there until it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where nginx's modules lie.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";

impl Front {
    /// HAProxy in front of `gate`: further lines of its front end, and options of its `server` line, such as `send-proxy`.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not listen in time.
    pub fn haproxy(gate: SocketAddr, lines: &str, server: &str) -> Self {
        let file = |port: u16, _: &str| {
            format!(
                "global\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  \
                 timeout server 60s\nfrontend viewers\n  bind 127.0.0.1:{port}\n{lines}\n  default_backend gate\n\
                 backend gate\n  server gate {gate} {server}\n"
            )
        };
        Self::start("haproxy", file, &["-db", "-f"])
    }

    /// nginx in front: a whole `http` or `stream` block, with `PORT` for the port that it is to listen on.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not listen in time.
    pub fn nginx(blocks: &str) -> Self {
        let module = if blocks.contains("stream {") {
            format!("load_module {NGINX_MODULES}/ngx_stream_module.so;\n")
        } else {
            String::new()
        };
        let file = |port: u16, folder: &str| {
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String =
                kinds.iter().map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).collect();
            let blocks = blocks
                .replace("PORT", &port.to_string())
                .replace("http {", &format!("http {{\naccess_log off;\n{temporary}"));
            format!(
                "{module}daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
                 events {{ worker_connections 4000; }}\n{blocks}\n"
            )
        };
        // Until its own file says where else, it complains on its standard error.
        Self::start("nginx", file, &["-e", "stderr", "-c"])
    }

    fn start(program: &str, file: impl Fn(u16, &str) -> String, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let folder = std::env::temp_dir().join(format!("nicgate-front-{}-{number}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let path = folder.join("conf");
            fs::write(&path, file(port, &folder.to_string_lossy())).unwrap();
            let mut command = Command::new(program);
            command.args(arguments).arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.spawn().unwrap_or_else(|error| {
                panic!("{program}: {error}; `cargo xtask setup` installs what the tests need")
            });
            let mut front = Self { address: (Ipv4Addr::LOCALHOST, port).into(), child, folder };
            let deadline = Instant::now() + PATIENCE;
            while front.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(front.address).is_ok() {
                    return front;
                }
                assert!(Instant::now() < deadline, "{program} does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("{program} ends at once")
    }
}
