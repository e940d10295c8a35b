//! The machine that all of this is measured on.

use std::fs;
use std::thread::available_parallelism;

/// Processor, memory, kernel, and what others are doing at the moment.
pub(crate) fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} × {}, {} of memory, Linux {}\n{}\n",
        processors(),
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        load()
    )
}

/// How busy it is, and what that means.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().unwrap_or("?");
    let busy = load.parse::<f64>().is_ok_and(|load| load > 1.0);
    let meaning = if busy {
        ": the machine is not idle, so that ratios mean something and times little"
    } else {
        ""
    };
    format!("load {load} on {} processors{meaning}", processors())
}

fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}
