//! Builds the XDP programs that only measure and puts them where `src/objects.rs` embeds them.

use std::path::PathBuf;

#[path = "../../filter-ebpf/build_program.rs"]
mod build_program;

fn main() {
    let package = PathBuf::from(build_program::var("CARGO_MANIFEST_DIR"));
    build_program::build(&package.join("../.."), "nicgate-measure");
}
