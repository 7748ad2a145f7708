//! The filters whose reload is timed, each in a network namespace of its own.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use kit::{
    netns::Lab,
    nicgate::{Controller, Site},
};
use serde_json::Value;

use crate::{
    lists::{Which, list},
    phases::{Breakdown, Phases},
};

/// What has one of two things in force, and can be told to enforce the other one.
pub(crate) trait Filter {
    /// Gets the files ready, which is not timed, and then enforces; returns how long that took.
    fn reload(&mut self, which: Which) -> anyhow::Result<Duration>;
    /// Entries that are in force.
    fn entries(&self) -> anyhow::Result<u64>;
    /// Where the time of the last so many reloads went, if the filter tells.
    fn breakdown(&self, _reloads: usize) -> anyhow::Result<Option<Breakdown>> {
        Ok(None)
    }
}

/// What nicgate enforces.
pub(crate) enum Rules {
    /// `deny ip file`, with this many prefixes.
    List(u32),
    /// `allow country RU US`, and CA in turn, by this database.
    Country(PathBuf),
}

/// `nicgate reload`, of a running controller with an interface.
pub(crate) struct OfNicgate {
    // Dropped in this order: the controller before the network that it runs on.
    _controller: Controller,
    rules: Rules,
    phases: Vec<Phases>,
    site: Site,
    lab: Lab,
}

impl OfNicgate {
    pub(crate) fn start(rules: Rules) -> anyhow::Result<Self> {
        let lab = Lab::new("reload")?;
        let site = Site::new();
        write(&site, lab.interface(), &rules, Which::A)?;
        let controller = site.start(lab.edge())?;
        Ok(Self { _controller: controller, rules, phases: Vec::new(), site, lab })
    }

    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let said = self.site.run_in(self.lab.edge(), words);
        ensure!(said.status == Some(0), "`nicgate {}` failed: {}", words.join(" "), said.stderr.trim());
        Ok(said.stdout)
    }
}

/// The configuration, and the list if there is one.
fn write(site: &Site, interface: &str, rules: &Rules, which: Which) -> anyhow::Result<()> {
    let policy = match rules {
        Rules::List(count) => {
            write_list(&site.path("list.txt"), which, *count)?;
            "auth_backend home {\n  deny ip file \"list.txt\";\n  allow default;\n}\n".to_owned()
        }
        Rules::Country(database) => format!(
            "geoip \"{}\";\nauth_backend home {{\n  allow country {};\n}}\n",
            database.display(),
            if which == Which::A { "RU US" } else { "RU US CA" }
        ),
    };
    let text = format!("interface {interface} {{ mode native; }}\n{policy}guard tcp 1935 auth://home;\n");
    site.configure(&text);
    Ok(())
}

impl Filter for OfNicgate {
    fn reload(&mut self, which: Which) -> anyhow::Result<Duration> {
        write(&self.site, self.lab.interface(), &self.rules, which)?;
        let started = Instant::now();
        let printed = self.ask(&["reload", "--json"])?;
        let took = started.elapsed();
        self.phases.push(Phases::read(&printed, took.as_secs_f64())?);
        Ok(took)
    }

    fn breakdown(&self, reloads: usize) -> anyhow::Result<Option<Breakdown>> {
        let last = &self.phases[self.phases.len().saturating_sub(reloads)..];
        match &self.rules {
            Rules::List(_) => Breakdown::new(last, &self.site.path("list.txt")).map(Some),
            Rules::Country(database) => Breakdown::new(last, database).map(Some),
        }
    }

    fn entries(&self) -> anyhow::Result<u64> {
        let status: Value = serde_json::from_str(&self.ask(&["status", "--json"])?)
            .context("`nicgate status --json` printed no JSON")?;
        let table = &status["interfaces"][0]["v4"];
        let entries = |name: &str| table[name].as_u64().with_context(|| format!("no v4.{name} in {status}"));
        let (desired, installed) = (entries("desired")?, entries("installed")?);
        ensure!(desired == installed, "{desired} prefixes should be in force, and {installed} are");
        Ok(installed)
    }
}

/// `nft -f` of a transaction that replaces the elements of a set.
pub(crate) struct OfNft {
    lab: Lab,
    count: u32,
    files: Site,
}

impl OfNft {
    pub(crate) fn start(count: u32) -> anyhow::Result<Self> {
        let lab = Lab::new("nft")?;
        let files = Site::new();
        let interface = lab.interface();
        let file = files.write(
            "base.nft",
            format!(
                "table netdev blocked {{\nset sources {{ type ipv4_addr; flags interval; }}\nchain ingress {{\n\
                 type filter hook ingress device {interface} priority -500;\nip saddr @sources drop\n}}\n}}\n"
            ),
        );
        run(lab.edge().command("nft").arg("-f").arg(&file))?;
        Ok(Self { lab, count, files })
    }
}

impl Filter for OfNft {
    fn reload(&mut self, which: Which) -> anyhow::Result<Duration> {
        let file = self.files.path("list.nft");
        let mut out = BufWriter::new(File::create(&file)?);
        write!(out, "flush set netdev blocked sources\nadd element netdev blocked sources {{ ")?;
        for prefix in list(which, self.count) {
            writeln!(out, "{prefix},")?;
        }
        writeln!(out, "}}")?;
        out.flush()?;
        let mut command = self.lab.edge().command("nft");
        command.arg("-f").arg(&file);
        timed(&mut command)
    }

    fn entries(&self) -> anyhow::Result<u64> {
        let output = self
            .lab
            .edge()
            .command("nft")
            .args(["-j", "list", "set", "netdev", "blocked", "sources"])
            .output()?;
        let value: Value =
            serde_json::from_slice(&output.stdout).context("`nft -j list set` printed no JSON")?;
        let sets = value["nftables"].as_array().into_iter().flatten();
        let elements =
            sets.filter_map(|object| object["set"]["elem"].as_array()).map(Vec::len).sum::<usize>();
        Ok(elements as u64)
    }
}

/// `ipset restore` of a new set that then takes the old one's place.
pub(crate) struct OfIpset {
    lab: Lab,
    count: u32,
    files: Site,
}

impl OfIpset {
    pub(crate) fn start(count: u32) -> anyhow::Result<Self> {
        let lab = Lab::new("ipset")?;
        run(lab.edge().command("ipset").args(["create", "sources"]).args(Self::kind(count).split(' ')))?;
        Ok(Self { lab, count, files: Site::new() })
    }

    /// As large as it has to be from the start, which is the faster way.
    fn kind(count: u32) -> String {
        format!("hash:net family inet hashsize {} maxelem {}", count.next_power_of_two(), count * 2)
    }
}

impl Filter for OfIpset {
    fn reload(&mut self, which: Which) -> anyhow::Result<Duration> {
        let file = self.files.path("list.ipset");
        let mut out = BufWriter::new(File::create(&file)?);
        writeln!(out, "create next {}", Self::kind(self.count))?;
        for prefix in list(which, self.count) {
            writeln!(out, "add next {prefix}")?;
        }
        writeln!(out, "swap next sources\ndestroy next")?;
        out.flush()?;
        let mut command = self.lab.edge().command("ipset");
        command.arg("restore").arg("-file").arg(&file);
        timed(&mut command)
    }

    fn entries(&self) -> anyhow::Result<u64> {
        let output = self.lab.edge().command("ipset").args(["list", "-terse", "sources"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.lines().find_map(|line| line.strip_prefix("Number of entries: "));
        number.and_then(|number| number.trim().parse().ok()).with_context(|| format!("no number in:\n{text}"))
    }
}

fn write_list(path: &Path, which: Which, count: u32) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for prefix in list(which, count) {
        writeln!(out, "{prefix}")?;
    }
    out.flush().with_context(|| format!("cannot write {}", path.display()))
}

fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let started = Instant::now();
    run(command)?;
    Ok(started.elapsed())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{name} failed: {}", text.lines().next().unwrap_or("without a word"));
    }
    Ok(())
}
