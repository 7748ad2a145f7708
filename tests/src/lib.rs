//! What integration tests share.

pub mod frames;
pub mod tables;
