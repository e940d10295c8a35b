//! User and group ids of containers: 65536 each, that no other living container of the machine has.

use std::sync::{Arc, Mutex, PoisonError};

use super::shim::IDS;

/// First id of the first range: just above the ranges that systemd hands out.
const FIRST: u32 = 1_879_048_192;
/// Containers that an instance can have at a time.
pub(super) const CONTAINERS: u32 = 256;

/// The ranges of one instance.
#[derive(Debug)]
pub(super) struct Ranges {
    slot: u16,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: Vec<bool>,
    /// Where to look first, so that a range rests before it is used again.
    next: usize,
}

/// A range, free again when dropped.
#[derive(Debug)]
pub(super) struct Range {
    index: usize,
    ranges: Arc<Ranges>,
}

impl Ranges {
    /// The ranges of the instance in `slot`.
    pub(super) fn new(slot: u16) -> Arc<Self> {
        Arc::new(Self {
            slot,
            state: Mutex::new(State {
                taken: vec![false; CONTAINERS as usize],
                next: 0,
            }),
        })
    }

    /// Takes a range, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Range> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.taken.len();
        let index = (0..count)
            .map(|offset| (state.next + offset) % count)
            .find(|index| !state.taken[*index])?;
        state.taken[index] = true;
        state.next = index + 1;
        Some(Range {
            index,
            ranges: Arc::clone(self),
        })
    }
}

impl Ranges {
    /// Takes the range that begins with the id `first`, if it is one of ours and free.
    pub(super) fn take_again(self: &Arc<Self>, first: u32) -> Option<Range> {
        let place = first.checked_sub(FIRST)? / IDS;
        let index = place.checked_sub(u32::from(self.slot) * CONTAINERS)? as usize;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = state.taken.get_mut(index)?;
        if std::mem::replace(taken, true) {
            return None;
        }
        state.next = index + 1;
        Some(Range {
            index,
            ranges: Arc::clone(self),
        })
    }
}

impl Range {
    /// The id that the container's root has outside.
    pub(super) fn first(&self) -> u32 {
        let index = u32::try_from(self.index).expect("an index into a few hundred ranges");
        FIRST + (u32::from(self.ranges.slot) * CONTAINERS + index) * IDS
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let mut state = self
            .ranges
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.taken[self.index] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::SLOTS;
    use super::*;

    #[test]
    fn ranges_are_apart_and_all_ids_exist() {
        let last = Range {
            index: CONTAINERS as usize - 1,
            ranges: Ranges::new(SLOTS - 1),
        };
        // The very last id means "nobody".
        assert!(u64::from(last.first()) + u64::from(IDS) < u64::from(u32::MAX));
        let first_of_next = Ranges::new(1).take().expect("free").first();
        assert_eq!(first_of_next, FIRST + CONTAINERS * IDS);
    }

    #[test]
    fn a_range_is_taken_again_once_and_only_where_it_belongs() {
        let taken = Ranges::new(3).take().expect("free").first();
        let next = Ranges::new(3);
        let again = next.take_again(taken).expect("free");
        assert_eq!(again.first(), taken);
        assert!(next.take_again(taken).is_none());
        for elsewhere in [0, FIRST, taken + CONTAINERS * IDS, u32::MAX] {
            assert!(next.take_again(elsewhere).is_none(), "{elsewhere}");
        }
        assert_ne!(next.take().expect("free").first(), taken);
    }

    #[test]
    fn a_range_is_free_again_after_use_and_rests_before() {
        let ranges = Ranges::new(0);
        let one = ranges.take().expect("free").first();
        let two = ranges.take().expect("free");
        assert_ne!(one, two.first());
        let mut all: Vec<_> = std::iter::from_fn(|| ranges.take()).collect();
        assert_eq!(all.len(), CONTAINERS as usize - 1);
        all.pop();
        assert_eq!(ranges.take().expect("the one just given back").first(), one);
    }
}
