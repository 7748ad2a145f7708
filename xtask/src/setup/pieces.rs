//! What nicgate needs beyond Rust, how each piece is recognised, and where it comes from.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::bail;

use super::{Purpose, apt};
use crate::machine;

/// What links the XDP program; this version when there is none.
const BPF_LINKER: Program = Program {
    name: "bpf-linker",
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
};

/// What looks at the dependencies' licences and sources; this version when there is none.
const CARGO_DENY: Program = Program { name: "cargo-deny", version: "0.20.2", arguments: &["--locked"] };

/// Where Debian's packages put the LLVM that bpf-linker is built with.
pub(super) const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

const LLVM_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];
const CORE_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];

/// One thing that can be missing.
pub(super) struct Piece {
    pub(super) name: &'static str,
    /// What it is for.
    pub(super) why: &'static str,
    purposes: &'static [Purpose],
    pub(super) present: fn() -> bool,
    pub(super) source: Source,
    /// What to do where there is no apt-get.
    pub(super) by_hand: &'static str,
    /// The log file's name.
    pub(super) log: &'static str,
}

impl Piece {
    pub(super) fn wanted_for(&self, purpose: Purpose) -> bool {
        purpose == Purpose::Everything || self.purposes.contains(&purpose)
    }
}

/// A program that cargo builds from its source.
#[derive(Clone, Copy)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// More arguments of `cargo install`.
    pub(super) arguments: &'static [&'static str],
}

/// Where a piece comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Debian's packages.
    Packages(&'static [&'static str]),
    /// A core library for BPF: packages where the distribution has them, else a nightly toolchain.
    Core,
    /// Built by cargo.
    Cargo(Program),
    /// Rust's own formatter and linter.
    Components,
}

/// How a piece is installed on this machine.
#[derive(Clone, Copy)]
pub(super) enum Install {
    /// With apt-get.
    Packages(&'static [&'static str]),
    /// A nightly toolchain with the standard library's source, through rustup.
    Nightly,
    /// With cargo.
    Cargo(Program),
    /// Components of the toolchain, through rustup.
    Components,
}

impl Source {
    /// Whether `apt-get update` must have run.
    pub(super) fn reads_package_lists(self) -> bool {
        matches!(self, Self::Packages(_) | Self::Core)
    }

    /// Decides by what this machine has.
    ///
    /// # Errors
    ///
    /// When the piece is not to be had here.
    pub(super) fn resolve(self) -> anyhow::Result<Install> {
        let rustup = || machine::find("rustup").is_some();
        match self {
            Self::Packages(packages) => match packages.iter().find(|package| !apt::available(package)) {
                Some(missing) => bail!("this distribution's package lists have no {missing}"),
                None => Ok(Install::Packages(packages)),
            },
            Self::Core if CORE_PACKAGES.iter().all(|package| apt::available(package)) => {
                Ok(Install::Packages(CORE_PACKAGES))
            }
            Self::Core if rustup() => Ok(Install::Nightly),
            Self::Core => bail!(
                "this distribution's package lists have no {}, and there is no rustup for a nightly toolchain",
                CORE_PACKAGES.join(" or ")
            ),
            Self::Components if rustup() => Ok(Install::Components),
            Self::Components => bail!("there is no rustup, and this Rust came without them"),
            Self::Cargo(program) => Ok(Install::Cargo(program)),
        }
    }
}

impl Install {
    /// For the progress line.
    pub(super) fn says(self) -> String {
        match self {
            Self::Packages(packages) => format!("apt-get install {}", packages.join(" ")),
            Self::Nightly => "rustup toolchain install nightly with rust-src".to_owned(),
            Self::Cargo(program) => {
                format!("building {} with cargo install, 1 to 4 minutes", program.version)
            }
            Self::Components => "rustup component add rustfmt clippy".to_owned(),
        }
    }
}

const ALL: &[Purpose] = &[Purpose::Build, Purpose::Demo, Purpose::Test, Purpose::Bench, Purpose::Machine];

/// Everything, in the order of installation.
pub(super) const PIECES: &[Piece] = &[
    Piece {
        name: "C and C++ compiler",
        why: "links Rust programs and builds bpf-linker",
        purposes: ALL,
        present: || works("cc", &["--version"]) && works("c++", &["--version"]),
        source: Source::Packages(&["build-essential"]),
        by_hand: "gcc and g++, or clang",
        log: "compiler",
    },
    Piece {
        name: "BPF core library",
        why: "compiles the XDP program",
        purposes: ALL,
        present: || debian_core() || nightly_source(),
        source: Source::Core,
        by_hand: "rustup toolchain install nightly --component rust-src",
        log: "bpf-core",
    },
    Piece {
        name: "LLVM 22 libraries",
        why: "bpf-linker is built with them",
        purposes: ALL,
        present: || linker() || apt::installed(LLVM_PACKAGES),
        source: Source::Packages(LLVM_PACKAGES),
        by_hand: "the development files of LLVM 22, Polly, zlib and zstd",
        log: "llvm",
    },
    Piece {
        name: "bpf-linker",
        why: "links the XDP program",
        purposes: ALL,
        present: linker,
        source: Source::Cargo(BPF_LINKER),
        by_hand: "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22",
        log: "bpf-linker",
    },
    Piece {
        name: "iproute2",
        why: "makes the network namespaces of the tests and the demo",
        purposes: &[Purpose::Demo, Purpose::Test, Purpose::Bench, Purpose::Machine],
        present: || works("ip", &["-V"]),
        source: Source::Packages(&["iproute2"]),
        by_hand: "the package with the command `ip`",
        log: "iproute2",
    },
    Piece {
        name: "haproxy and nginx",
        why: "the tests put them in front of gates and behind them",
        purposes: &[Purpose::Test],
        present: || {
            ["haproxy", "nginx"].iter().all(|program| machine::find(program).is_some())
                && Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").is_file()
        },
        source: Source::Packages(&["haproxy", "nginx-light", "libnginx-mod-stream"]),
        by_hand: "haproxy, and nginx with its stream module",
        log: "proxies",
    },
    Piece {
        name: "players and nginx",
        why: "the tests play and publish with them",
        purposes: &[Purpose::Test],
        present: || {
            ["ffmpeg", "ffprobe", "gst-launch-1.0", "cvlc", "nginx", "setpriv"]
                .iter()
                .all(|program| machine::find(program).is_some())
                && ["hlsdemux", "dashdemux", "souphttpsrc", "avdec_h264"]
                    .iter()
                    .all(|element| works("gst-inspect-1.0", &["--exists", element]))
        },
        source: Source::Packages(&[
            "ffmpeg",
            "gstreamer1.0-tools",
            "gstreamer1.0-plugins-base",
            "gstreamer1.0-plugins-good",
            "gstreamer1.0-plugins-bad",
            "gstreamer1.0-libav",
            "nginx-light",
            "util-linux",
            "vlc-bin",
            "vlc-plugin-base",
        ]),
        by_hand: "ffmpeg, GStreamer with its good, bad and libav plugins, VLC without its window, and nginx",
        log: "players",
    },
    Piece {
        name: "rustfmt and clippy",
        why: "the first two checks of the tests",
        purposes: &[Purpose::Test],
        present: || works("cargo", &["fmt", "--version"]) && works("cargo", &["clippy", "--version"]),
        source: Source::Components,
        by_hand: "rustup component add rustfmt clippy",
        log: "components",
    },
    Piece {
        name: "cargo-deny",
        why: "looks at the licences and sources of what nicgate is made of",
        purposes: &[Purpose::Licences],
        present: || works("cargo", &["deny", "--version"]),
        source: Source::Cargo(CARGO_DENY),
        by_hand: "cargo install cargo-deny --locked",
        log: "cargo-deny",
    },
    Piece {
        name: "iprange",
        why: "the benchmark's measure for aggregating prefixes",
        purposes: &[Purpose::Bench],
        present: || machine::find("iprange").is_some(),
        source: Source::Packages(&["iprange"]),
        by_hand: "https://github.com/firehol/iprange",
        log: "iprange",
    },
    Piece {
        name: "ipset, iptables, nftables and xdp-filter",
        why: "the benchmarks compare nicgate with them",
        purposes: &[Purpose::Bench],
        present: || {
            ["ipset", "iptables", "nft", "xdp-filter"].iter().all(|program| machine::find(program).is_some())
        },
        source: Source::Packages(&["ipset", "iptables", "nftables", "xdp-tools"]),
        by_hand: "the packages with these commands",
        log: "peers",
    },
    Piece {
        name: "qemu",
        why: "boots other kernels, for `cargo xtask vm` only",
        purposes: &[Purpose::Machine],
        present: || works("qemu-system-x86_64", &["--version"]),
        source: Source::Packages(&["qemu-system-x86", "binutils", "xz-utils"]),
        by_hand: "qemu for x86-64",
        log: "qemu",
    },
];

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = machine::command(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn linker() -> bool {
    works("bpf-linker", &["--version"])
}

/// Debian's compiler with a precompiled core for BPF. Not the first `rustc` on the path, which is rustup's.
fn debian_core() -> bool {
    let rustc = Path::new("/usr/bin/rustc");
    rustc.is_file() && sysroot(machine::command(rustc)).is_some_and(|root| has_bpf_core(&root))
}

fn has_bpf_core(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/bpfel-unknown-none/lib").is_dir()
}

/// A nightly that can build core itself.
fn nightly_source() -> bool {
    let mut rustup = machine::command("rustup");
    rustup.args(["run", "nightly", "rustc"]);
    sysroot(rustup).is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
}

fn sysroot(mut rustc: std::process::Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}
