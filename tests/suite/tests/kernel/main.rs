//! The program in the kernel: loaded, attached, run on made frames and on real packets. Needs root.

mod attach;
mod bans;
mod cost;
mod explain_kernel_triples;
mod generations;
mod memory;
mod netns_harness;
mod verdicts;
