//! Building an XDP program from a build script: finds a toolchain for BPF, and puts the object file into `OUT_DIR`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const TARGET: &str = "bpfel-unknown-none";
/// A rustc that has a compiled core for [`TARGET`]; overrides the search.
const RUSTC_OVERRIDE: &str = "NICGATE_BPF_RUSTC";
/// The rustc of Debian's `rustc-web`; its core for BPF comes with `libstd-rust-web-dev-bpf`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What compiles for BPF.
enum Toolchain {
    /// A rustc that has a compiled core.
    Prebuilt(PathBuf),
    /// rustup's nightly, which builds core from source.
    Nightly,
}

/// Builds a binary of this package, which lies in the workspace's folder.
#[expect(clippy::too_many_lines, reason = "one command line, argument by argument")]
pub(crate) fn build(workspace: &Path, binary: &str) {
    let program = workspace.join("filter-ebpf");
    for path in [
        program.join("src"),
        program.join("Cargo.toml"),
        program.join("build_program.rs"),
        workspace.join("Cargo.lock"),
    ] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-env-changed={RUSTC_OVERRIDE}");
    println!("cargo::rerun-if-env-changed=PATH");
    if var("CARGO_CFG_TARGET_ENDIAN") != "little" {
        fail("the BPF program is built for little-endian machines only");
    }

    let Some(toolchain) = find_toolchain() else {
        fail("no Rust compiler for the BPF target was found: run `cargo xtask setup`");
    };
    let Some(path) = path_with_linker() else {
        fail("bpf-linker was not found: run `cargo xtask setup`");
    };
    let out = PathBuf::from(var("OUT_DIR"));
    let target_dir = out.join("bpf");
    let mut cargo = match &toolchain {
        Toolchain::Prebuilt(rustc) => {
            let mut cargo = Command::new(var("CARGO"));
            // Unstable features (inline BPF assembly in aya-ebpf) of a stable compiler.
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg("build");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
            cargo.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            cargo
        }
    };
    // What belongs to the outer build: clippy's driver, coverage flags, a linker for the host.
    for inherited in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "CLIPPY_ARGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(inherited);
    }
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", var("CARGO_CFG_TARGET_ARCH")),
        // The linker makes BTF out of it; the maps are declared in BTF.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", path)
        .arg("--manifest-path")
        .arg(program.join("Cargo.toml"))
        .args(["--bin", binary, "--features", "program", "--target", TARGET, "--release"])
        .args(["--config", "profile.release.panic=\"abort\"", "--config", "profile.release.lto=false"])
        .args(["--config", "profile.release.codegen-units=1"])
        .arg("--target-dir")
        .arg(&target_dir);
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the BPF program did not build ({status}); the output above says why")),
        Err(error) => fail(&format!("could not run {}: {error}", cargo.get_program().display())),
    }
    let built = target_dir.join(TARGET).join("release").join(binary);
    if let Err(error) = fs::copy(&built, out.join(binary)) {
        fail(&format!("could not copy {}: {error}", built.display()));
    }
}

fn find_toolchain() -> Option<Toolchain> {
    if let Some(rustc) = env::var_os(RUSTC_OVERRIDE) {
        return Some(Toolchain::Prebuilt(rustc.into()));
    }
    let debian = Path::new(DEBIAN_RUSTC);
    if debian.exists() && has_core(debian) {
        return Some(Toolchain::Prebuilt(debian.to_owned()));
    }
    let sysroot = stdout(
        Command::new("rustup")
            .env_remove("RUSTUP_TOOLCHAIN")
            .args(["run", "nightly", "rustc", "--print", "sysroot"]),
    )?;
    let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
    sources.exists().then_some(Toolchain::Nightly)
}

/// Whether this rustc can compile for BPF without building core first.
fn has_core(rustc: &Path) -> bool {
    let Some(libraries) = stdout(Command::new(rustc).args(["--target", TARGET, "--print", "target-libdir"]))
    else {
        return false;
    };
    fs::read_dir(libraries).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().as_encoded_bytes().starts_with(b"libcore-"))
    })
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The search path, with cargo's own directory at its end if the linker is there.
fn path_with_linker() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let has_linker = |dir: &PathBuf| dir.join("bpf-linker").is_file();
    if env::split_paths(&path).any(|dir| has_linker(&dir)) {
        return Some(path);
    }
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let bin = Some(cargo_home.join("bin")).filter(has_linker)?;
    env::join_paths(env::split_paths(&path).chain([bin])).ok()
}

/// A variable that cargo sets.
pub(crate) fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1);
}
