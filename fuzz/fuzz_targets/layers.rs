#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tfnz_fuzz::layers::run(data));
