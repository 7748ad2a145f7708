//! `nicgate attach` and `detach`: what needs no controller.

use std::{io::Write as _, path::Path};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::{
    Failure, Output,
    output::{grouped, stdout},
};
use crate::{
    bans::Exempt,
    config::Report,
    control::Client,
    kernel::{self, AttachReport, Bpffs, Filter},
    load::{LoadError, Loaded, load_from},
    operations::{Released, Request},
    state::{self, BanStore, Recording},
    table::Layout,
};

/// What `attach` prints for programs.
#[derive(Serialize)]
struct Attached {
    interfaces: Vec<AttachReport>,
}

/// What `detach` prints for programs.
#[derive(Serialize)]
struct Detached {
    detached: Vec<String>,
}

/// Those interfaces, or every one that nicgate filters.
pub(super) fn attached(names: &[String]) -> Result<Vec<String>, Failure> {
    let attached = kernel::attached()?;
    if names.is_empty() {
        return Ok(attached);
    }
    match names.iter().find(|name| !attached.contains(name)) {
        None => Ok(names.to_vec()),
        Some(other) => Err(Failure::Request(anyhow!(
            "nicgate is not attached to {other}; attached: {}",
            list(&attached)
        ))),
    }
}

/// The configuration or, where that cannot be loaded, the last good one. At boot, before the network is up, the
/// alternative would be to leave the machine open.
fn load_or_kept(path: &Path, bans_file: &Path, output: &Output) -> Result<(Loaded, Report), LoadError> {
    let folder = state::folder_beside(bans_file);
    let error = match load_from(path, &Recording::with_former(&folder, path), &|_| ()) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let kept = state::read(&folder, path).ok().and_then(|kept| load_from(path, &kept, &|_| ()).ok());
    let Some(kept) = kept else { return Err(error) };
    output.warning(&format!(
        "the last good configuration is enforced, because this one cannot be loaded:\n{error}"
    ));
    Ok(kept)
}

/// `nicgate attach`: what the controller does at its start, without a controller.
pub(super) fn attach(
    path: &Path,
    control: &Path,
    names: &[String],
    bans_file: &Path,
    output: &Output,
) -> Result<(), Failure> {
    if let Ok(Some(_)) = Client::connect(control) {
        return Err(Failure::Request(anyhow!(
            "a controller runs and owns the interfaces: name them in the configuration and `nicgate reload`"
        )));
    }
    let (loaded, report) = load_or_kept(path, bans_file, output)?;
    output.report(&report);
    let layout = Layout::new(loaded.config.engine, loaded.compile())
        .context("the kernel's tables cannot hold this configuration")
        .map_err(Failure::Request)?;
    let configured = &loaded.config.interfaces;
    if let Some(unknown) =
        names.iter().find(|name| !configured.iter().any(|interface| *interface.name == **name))
    {
        return Err(Failure::Request(anyhow!("{}: there is no `interface {unknown}`", path.display())));
    }
    let wanted: Vec<_> = configured
        .iter()
        .filter(|interface| names.is_empty() || names.iter().any(|name| *interface.name == **name))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::Request(anyhow!("{}: there is no `interface` to attach to", path.display())));
    }
    let bans = BanStore::read(bans_file).unwrap_or_else(|error| {
        output.warning(&format!(
            "the bans in {} cannot be read: {error:#}; those that are in force stay in force",
            bans_file.display()
        ));
        None
    });
    let exempt = Exempt::of(&loaded.config);
    let bans = bans.map(|book| book.desired(&exempt));
    let mut reports = Vec::new();
    for interface in wanted {
        let (_, report) = Filter::attach_with(&interface.name, interface.mode, &layout, bans.as_ref())?;
        for note in report.notes.iter().chain(&report.published.warnings) {
            output.warning(&format!("{}: {note}", interface.name));
        }
        if !output.json {
            writeln!(
                stdout(),
                "{}: {} ({}), {} IPv4 and {} IPv6 prefixes",
                report.interface,
                if report.adopted { "updated" } else { "attached" },
                report.mode,
                grouped(report.published.v4_entries as u64),
                grouped(report.published.v6_entries as u64),
            )?;
        }
        reports.push(report);
    }
    if output.json {
        output.print_json(&Attached { interfaces: reports })?;
    }
    Ok(())
}

/// `nicgate detach`.
pub(super) fn detach(control: &Path, names: &[String], all: bool, output: &Output) -> Result<(), Failure> {
    if names.is_empty() && !all {
        return Err(Failure::Request(anyhow!(
            "name the interfaces, or --all; attached: {}",
            list(&attached(&[])?)
        )));
    }
    let names = attached(names)?;
    // The controller would put back what is taken off behind its back.
    if let Ok(Some(client)) = Client::connect(control) {
        client.ask::<Released>(&Request::Release { interfaces: names.clone() })?;
    }
    for name in &names {
        kernel::detach(&Bpffs::default(), name)?;
        if !output.json {
            writeln!(stdout(), "{name}: detached")?;
        }
    }
    if !names.is_empty() && matches!(Client::connect(control), Ok(Some(_))) {
        output.warning(
            "a controller runs: its next reload attaches again to every `interface` of its configuration",
        );
    }
    if output.json {
        output.print_json(&Detached { detached: names })?;
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
