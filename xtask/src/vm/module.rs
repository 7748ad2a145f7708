//! Kernel modules: where they are, and which others each needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};

use crate::machine;

/// The modules under a directory, by name.
pub(super) struct Modules(BTreeMap<String, PathBuf>);

impl Modules {
    /// All of them.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub(super) fn find(directory: &Path) -> anyhow::Result<Self> {
        let mut found = BTreeMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory);
            for entry in entries.with_context(|| format!("cannot read {}", directory.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Some(name) = name(&path) {
                    found.insert(name, path);
                }
            }
        }
        Ok(Self(found))
    }

    /// The modules and all that they need, in the order in which they are to be loaded, decompressed.
    ///
    /// # Errors
    ///
    /// When one is missing or cannot be read.
    pub(super) fn load_order(&self, wanted: &[&str]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut order = Vec::new();
        for name in wanted {
            self.append(name, &mut order)?;
        }
        Ok(order)
    }

    fn append(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
        if order.iter().any(|(loaded, _)| loaded == name) {
            return Ok(());
        }
        let path = self.0.get(name).with_context(|| format!("this kernel's package has no module {name}"))?;
        let module = decompressed(path)?;
        for needed in needs(&module) {
            self.append(&needed, order)?;
        }
        order.push((name.to_owned(), module));
        Ok(())
    }
}

/// A module's name from its file's: what is before `.ko`, with underscores as the kernel has them.
fn name(path: &Path) -> Option<String> {
    let (stem, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

/// The modules that a module says it needs, in its `.modinfo` section: strings that end with a zero.
fn needs(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(FIELD.len()).position(|window| window == FIELD) else { return Vec::new() };
    let value = module[at + FIELD.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn decompressed(path: &Path) -> anyhow::Result<Vec<u8>> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = machine::command(tool).args(["-dc"]).arg(path).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {tool}, which {} needs", path.display()))?;
    if !output.status.success() {
        bail!("`{tool} -dc {}` failed", path.display());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::needs;

    #[test]
    fn reads_what_a_module_needs() {
        assert_eq!(
            needs(b"x\0license=GPL\0depends=libcrc32c,nf-tables\0name=a\0"),
            ["libcrc32c", "nf_tables"]
        );
        assert!(needs(b"\0depends=\0name=veth\0").is_empty());
        assert!(needs(b"no section").is_empty());
    }
}
