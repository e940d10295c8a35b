//! The `tf` command.

fn main() {}
