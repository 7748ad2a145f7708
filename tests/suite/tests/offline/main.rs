//! What needs neither a controller nor a kernel: commands, configurations, documents, and the shape of the code.

mod cli;
mod config_samples;
mod country;
mod documents;
mod fuzz_config;
mod fuzz_manifest;
mod fuzz_packet;
mod fuzz_path;
mod fuzz_proxies;
mod layering;
mod objects;
