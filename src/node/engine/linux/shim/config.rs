//! The OCI configuration that a container is created from: what `docker run` gives a container without options, in
//! namespaces of its own, the user namespace included.

use serde_json::{Value, json};

use super::super::control::Create;
use super::privileges::CAPABILITIES;
use super::root::ROOT;
use super::user::IDS;

/// Processes and threads of a container that does not say how many: far beyond what a service needs, and far below what
/// makes a machine stumble.
const DEFAULT_PIDS: u32 = 4096;
/// Over which time the share of processors is measured, in microseconds.
const PERIOD: u64 = 100_000;
/// The least share that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1000;

/// Configuration of a container. `swap` says whether the machine can limit swap.
pub(super) fn config(create: &Create, swap: bool) -> Value {
    let mut capabilities: Vec<_> = CAPABILITIES.iter().map(|(name, _)| *name).collect();
    // To mount what libcontainer does not. Given up before the container counts as created.
    capabilities.push("CAP_SYS_ADMIN");
    let ids = json!([{ "containerID": 0, "hostID": create.first_id, "size": IDS }]);
    let namespaces: Vec<_> = ["user", "pid", "network", "mount", "ipc", "uts", "cgroup"]
        .into_iter()
        .map(|name| json!({ "type": name }))
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": ROOT, "readonly": false },
        "hostname": create.hostname,
        "process": {
            "terminal": false,
            // Who it really runs as, where and with which environment is settled by `launch`, from inside. `HOME` is
            // given here because libcontainer would look for it with the C library, which loads code from the image.
            "user": { "uid": 0, "gid": 0 },
            "args": ["-"],
            "env": ["HOME=/"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": true,
        },
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "cgroupsPath": create.cgroup,
            "resources": resources(create, swap),
            "rootfsPropagation": "private",
            "sysctl": {
                // As Docker: a container's root is nobody special, and all of its users may listen on port 80 and ping.
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.ipv4.ping_group_range": format!("0 {}", IDS - 1),
            },
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ],
        },
    })
}

/// The mounts on directories of the image, which libcontainer makes because it is careful about what they really are. The
/// others come after it, in `mounts`: there each takes a few system calls rather than a hundred.
fn mounts() -> Value {
    json!([
        {
            "destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
    ])
}

fn resources(create: &Create, swap: bool) -> Value {
    let mut resources = json!({
        "pids": { "limit": create.limits.pids.unwrap_or(DEFAULT_PIDS) },
        // The user namespace keeps devices from being made, and `nodev` those of the image from being opened. Version 1
        // of cgroups refuses them a third time.
        "devices": [{ "allow": false, "access": "rwm" }],
    });
    if let Some(memory) = create.limits.memory {
        let memory = i64::try_from(memory).unwrap_or(i64::MAX);
        resources["memory"] = if swap {
            // Of memory and swap together: no swap beyond the limit.
            json!({ "limit": memory, "swap": memory })
        } else {
            json!({ "limit": memory })
        };
    }
    if let Some(millicpus) = create.limits.millicpus {
        let quota = (millicpus.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA);
        resources["cpu"] = json!({ "quota": quota, "period": PERIOD });
    }
    resources
}
