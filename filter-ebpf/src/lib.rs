//! What nicgate's XDP program and its controller share: the layout of every map, and the packet parser.
//!
//! Both sides compile the same parser, so that what is tested and fuzzed on the host is what runs at the NIC.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod bans;
pub mod flat;
pub mod layout;
pub mod measure;
mod outcome;
pub mod parse;
