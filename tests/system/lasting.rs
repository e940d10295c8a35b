//! Containers that outlive the process of their engine, which is killed here again and again.
//!
//! The engine that is killed runs in a process of its own, which is this test program with the test `owner`. It does what
//! it reads from its standard input, a line each, and says on its standard output when that is done.

mod loss;
mod owner;
mod stranger;
mod takeover;
