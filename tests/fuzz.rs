//! What `cargo fuzz` runs for minutes, for a moment each time: its seeds, and what comes of them by small changes.

use std::fs;
use std::path::Path;

#[allow(
    unreachable_pub,
    clippy::pedantic,
    reason = "they are a crate of their own for cargo fuzz"
)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Changed inputs for each target.
const INPUTS: u64 = 2000;

/// A target: its name, what it does with bytes, and bytes to begin with.
type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All targets that can run here.
fn targets() -> Vec<Target> {
    let mut all: Vec<Target> = vec![
        ("frames", targets::frames::run, targets::frames::seeds),
        ("messages", targets::messages::run, targets::messages::seeds),
    ];
    #[cfg(target_os = "linux")]
    {
        all.push(("images", targets::images::run, targets::images::seeds));
        // Directories that their owner may not enter could not be removed by anybody else.
        if nix::unistd::geteuid().is_root() {
            all.push(("layers", targets::layers::run, targets::layers::seeds));
        }
    }
    all
}

#[test]
fn no_bytes_make_a_reader_panic() {
    for (name, run, seeds) in targets() {
        let mut seeds = seeds();
        seeds.extend(committed(name, &seeds));
        for seed in &seeds {
            run(seed);
        }
        for number in 0..INPUTS {
            let input = changed(&seeds, number);
            let ran = std::panic::catch_unwind(|| run(&input));
            assert!(ran.is_ok(), "{name} with input {number}: {input:?}");
        }
    }
}

/// Bytes to begin with that are in the repository for `cargo fuzz`, findings of earlier runs among them. Those that the
/// target makes itself are written there with `TF_BLESS=1`.
fn committed(name: &str, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    if std::env::var_os("TF_BLESS").is_some() {
        fs::create_dir_all(&directory).expect("the tree is writable");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(number.to_string()), seed).expect("the tree is writable");
        }
    }
    let entries = fs::read_dir(&directory).expect("there are seeds");
    let read =
        |entry: std::io::Result<fs::DirEntry>| fs::read(entry.expect("it is a directory").path());
    entries
        .map(|entry| read(entry).expect("it is a file"))
        .collect()
}

/// A seed with some changes, others for each number.
fn changed(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        if input.is_empty() {
            break;
        }
        let at = random.below(input.len());
        match random.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, random.byte()),
            2 => drop(input.remove(at)),
            3 => input[at] ^= 1 << random.below(8),
            4 => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("lengths are small");
        usize::try_from(self.next() % end).expect("it is below a length")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
