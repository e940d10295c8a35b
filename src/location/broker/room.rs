//! Which node has most room.

use std::time::Duration;

use crate::protocol::messages::NodeInfo;

/// What the load of a node is a mean over.
pub(super) const LOAD_WINDOW: Duration = Duration::from_mins(1);

/// How much room a node has: the free share of its processors and of its memory together, at most 2, and below 0 for one that
/// has more to do than it can. A container of the last minute counts as a busy processor: the load is a mean that does not have
/// it yet, and many that are started at a time would all be placed on one node.
pub(super) fn room(node: &NodeInfo, recent: u32) -> f64 {
    let share = |free: f64, all: f64| if all > 0.0 { free / all } else { 0.0 };
    let cpus = f64::from(node.cpus);
    let busy = f64::from(node.load) + f64::from(recent);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ranking needs no single bytes"
    )]
    let memory = share(node.memory_free as f64, node.memory as f64);
    // What nodes say of themselves may be nonsense.
    share(cpus - busy, cpus).min(1.0) + memory.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;
    use crate::protocol::image::Platform;

    #[test]
    fn what_was_just_placed_takes_room() {
        let node = |load, memory_free| NodeInfo {
            id: NodeId::random(),
            hostname: "here".to_owned(),
            platform: Platform::host(),
            cpus: 4,
            load,
            memory: 8 << 30,
            memory_free,
            disk_free: 0,
            containers: 0,
            mean_start: Duration::ZERO,
        };
        let half = 4 << 30;
        assert!((room(&node(1.0, half), 0) - 1.25).abs() < 1e-6);
        assert!((room(&node(1.0, half), 2) - 0.75).abs() < 1e-6);
        assert!(room(&node(9.0, half), 9) < room(&node(9.0, half), 8));
        assert!(room(&node(0.0, half), 1) < room(&node(0.5, half), 0));
    }
}
