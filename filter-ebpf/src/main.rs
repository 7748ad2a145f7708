#![no_std]
#![no_main]
//! The XDP program.
