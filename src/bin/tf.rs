//! The `tf` command.

fn main() {
    tfnz::init_if_asked();
}
