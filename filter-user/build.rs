//! Builds the XDP program and puts it where `src/kernel/object.rs` embeds it.

use std::path::PathBuf;

#[path = "../filter-ebpf/build_program.rs"]
mod build_program;

fn main() {
    let package = PathBuf::from(build_program::var("CARGO_MANIFEST_DIR"));
    build_program::build(&package.join(".."), "nicgate-xdp");
}
