//! An edge with a gate and a media server, a viewer, and a router that the flood comes from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use tests::{
    device,
    netns::{Lab, Namespace, Process},
    nicgate::Nicgate,
    server::Server,
};

use crate::{flood, viewer};

/// Everything that is up. The gate is nicgate's in every case; whether it also filters is the case's business.
pub(crate) struct Scene {
    // Dropped in this order: the controller before the network that it runs on.
    _controller: Process,
    pub(crate) nicgate: Nicgate,
    _origin: Server,
    pub(crate) viewer: Namespace,
    directory: Directory,
    pub(crate) lab: Lab,
}

/// Removed with the scene.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Scene {
    /// Makes it; with `filter`, nicgate's program is on the edge's interface.
    pub(crate) fn build(filter: bool) -> anyhow::Result<Self> {
        let mut lab = Lab::new("flood")?;
        let viewer = lab.client("viewer", &[viewer::ADDRESS.into()])?;
        // What the edge answers to the flood goes nowhere.
        lab.router().batch("route add blackhole 198.18.0.0/16\nroute add blackhole 2001:db8:bad::/48\n")?;
        let segment = Bytes::from(vec![0x47; viewer::SEGMENT]);
        let origin = Server::start(lab.edge(), ([127, 0, 0, 1], 8080), move |_| {
            Response::new(Full::new(segment.clone()))
        })?;
        let directory = std::env::temp_dir().join(format!("nicgate-flood-{}", lab.interface()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let directory = Directory(directory);
        let configuration = directory.0.join("nicgate.conf");
        let interface = if filter {
            format!("interface {} {{ mode native; }}\n", lab.interface())
        } else {
            String::new()
        };
        fs::write(
            &configuration,
            format!(
                "{interface}gate 80 {{ upstream http://127.0.0.1:8080; }}\n\
                 auth_backend viewers {{\n  deny ip file \"flood.txt\";\n  allow default;\n}}\n\
                 stream live {{ input udp://239.255.0.1:1234; on_play auth://viewers; }}\n"
            ),
        )?;
        let sources: Vec<String> = flood::sources().iter().map(|address| format!("{address}\n")).collect();
        fs::write(directory.0.join("flood.txt"), sources.concat())?;
        let nicgate = Nicgate::new(lab.edge(), &configuration)?;
        let controller = nicgate.run(&directory.0.join("messages"))?;
        Ok(Self { _controller: controller, nicgate, _origin: origin, viewer, directory, lab })
    }

    /// A place for files of the case.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Frames that the edge's interface received so far.
    pub(crate) fn received(&self) -> anyhow::Result<u64> {
        Ok(self.lab.edge().run(|| device::counters(self.lab.interface()))?.received)
    }
}
