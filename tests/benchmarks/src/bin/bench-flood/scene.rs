//! An edge with a gate and a media server, a viewer, and a router that the flood comes from.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use kit::{
    device,
    netns::{Lab, Namespace},
    nicgate::{Controller, Site},
    server::Server,
};
use serde_json::Value;

use crate::{flood, viewer};

/// Everything that is up. The gate is nicgate's in every case; whether it also filters is the case's business.
pub(crate) struct Scene {
    // Dropped in this order: the controller before the network that it runs on.
    _controller: Controller,
    site: Site,
    _origin: Server,
    pub(crate) viewer: Namespace,
    pub(crate) lab: Lab,
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
        let interface = if filter {
            format!("interface {} {{ mode native; }}\n", lab.interface())
        } else {
            String::new()
        };
        let site = Site::new();
        site.configure(&format!(
            "{interface}gate 80 {{ upstream http://127.0.0.1:8080; }}\n\
             auth_backend viewers {{\n  deny ip file \"flood.txt\";\n  allow default;\n}}\n\
             stream live {{ input udp://239.255.0.1:1234; on_play auth://viewers; }}\n"
        ));
        let sources: Vec<String> = flood::sources().iter().map(|address| format!("{address}\n")).collect();
        site.write("flood.txt", sources.concat());
        let controller = site.start(lab.edge())?;
        Ok(Self { _controller: controller, site, _origin: origin, viewer, lab })
    }

    /// Writes a file of the case; returns its path.
    pub(crate) fn write(&self, name: &str, contents: &str) -> PathBuf {
        self.site.write(name, contents)
    }

    /// Frames that nicgate dropped so far, by its own counters.
    pub(crate) fn dropped(&self) -> anyhow::Result<u64> {
        let said = self.site.run_in(self.lab.edge(), &["stats", "--json"]);
        ensure!(said.status == Some(0), "`nicgate stats` failed: {}", said.stderr.trim());
        let stats: Value =
            serde_json::from_str(&said.stdout).context("`nicgate stats --json` printed no JSON")?;
        let rules =
            stats["interfaces"][0]["rules"].as_array().context("no rules in `nicgate stats --json`")?;
        Ok(rules.iter().filter_map(|rule| rule["packets"].as_u64()).sum())
    }

    /// Frames that the edge's interface received so far.
    pub(crate) fn received(&self) -> anyhow::Result<u64> {
        Ok(self.lab.edge().run(|| device::counters(self.lab.interface()))?.received)
    }
}
