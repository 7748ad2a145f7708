//! The `nicgate` command.

fn main() {}
