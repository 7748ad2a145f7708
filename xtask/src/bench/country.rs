//! The free address database that the country benchmark compiles.

use std::path::PathBuf;

use crate::{machine, step};

const PACKAGE: &str = "@ip-location-db/geo-whois-asn-country-mmdb";
const FILE: &str = "geo-whois-asn-country.mmdb";

/// The database, fetched once; else why there is none.
///
/// # Errors
///
/// When the directory for it cannot be made.
pub(crate) fn database() -> anyhow::Result<Result<PathBuf, String>> {
    let directory = machine::scratch()?.join("country");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("package").join(FILE);
    if file.is_file() {
        return Ok(Ok(file));
    }
    if machine::find("npm").is_none() {
        return Ok(Err("there is no npm to fetch the database with".to_owned()));
    }
    println!("fetching the free address database (CC0) with `npm pack {PACKAGE}` …");
    let mut npm = machine::command("npm");
    npm.args(["pack", PACKAGE]).current_dir(&directory);
    if let Err(error) = step::run(&mut npm, "npm-pack") {
        return Ok(Err(format!("{error:#}")));
    }
    let archives = std::fs::read_dir(&directory)?.flatten().map(|entry| entry.path());
    let Some(archive) =
        archives.filter(|path| path.extension().is_some_and(|extension| extension == "tgz")).max()
    else {
        return Ok(Err("npm pack left no archive".to_owned()));
    };
    let mut tar = machine::command("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&directory);
    if let Err(error) = step::run(&mut tar, "npm-unpack") {
        return Ok(Err(format!("{error:#}")));
    }
    std::fs::remove_file(archive)?;
    Ok(if file.is_file() { Ok(file) } else { Err(format!("{PACKAGE} has no {FILE} in it")) })
}
