//! Finds races: marks on memory say who touched what last, clocks say what is ordered.
//!
//! Lanes of one warp run in lock step and count as one. Every warp has an epoch, which a barrier ends, and knows up to
//! which epoch of every other warp all is done: that is what barriers tell it. An access is a race if an earlier one of
//! another warp, at least one of the two a write, belongs to an epoch it does not know of. Blocks know nothing of each
//! other, unless one fenced and then wrote atomically, and the other has read atomically since.

use crate::access::Touch;
use crate::fault::OtherAccess;

/// Who does an access, and what it knows.
#[derive(Clone)]
pub(crate) struct Who {
    /// Number of the running block, and of the first block of this launch.
    pub block: u32,
    pub first: u32,
    pub warp: u32,
    /// Epochs of the block's warps that are known to be done; its own entry is the current one.
    pub seen: [u32; 32],
    /// Whether this block read atomically.
    pub acquired: bool,
}

/// Bits of a write: warp + 1 below, then whether it was atomic, then the epoch.
const STRONG: u32 = 1 << 6;
const WARP: u32 = STRONG - 1;
const EPOCH: u32 = 7;

/// Marks on a few bytes.
#[derive(Clone, Copy, Default)]
struct Mark {
    writer_block: u32,
    writer: u32,
    /// When the write happened, in warp instructions of the launch.
    tick: u32,
    reader_block: u32,
    /// Warps that read, the epoch all of their reads reach at least, and whether all were atomic.
    readers: u32,
    reader_epoch: u32,
    strong_readers: bool,
    /// Whether blocks of this launch before `reader_block` read too.
    more_readers: bool,
}

/// The marks of one allocation, or of shared memory.
#[derive(Default)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    /// Bytes a mark stands for, as a power of two.
    shift: u32,
}

impl Marks {
    /// Makes marks for `bytes` bytes, one for `grain` each, unless there are such already.
    #[inline(always)]
    pub fn prepare(&mut self, bytes: usize, grain: u32) {
        if self.marks.is_empty() || 1 << self.shift > grain {
            self.make(bytes, grain);
        }
    }

    #[cold]
    fn make(&mut self, bytes: usize, grain: u32) {
        self.shift = grain.trailing_zeros();
        // Marks of earlier launches order nothing any more: all are new.
        self.marks = vec![Mark::default(); (bytes >> self.shift) + 1];
    }

    /// Marks an access; answers the other one if it is a race.
    #[inline(always)]
    pub fn touch(
        &mut self,
        offset: usize,
        bytes: usize,
        touch: Touch,
        who: &Who,
        tick: u32,
        releases: Option<&[u32]>,
    ) -> Option<(usize, OtherAccess)> {
        let (from, to) = (offset >> self.shift, (offset + bytes - 1) >> self.shift);
        let mut found = None;
        for (at, mark) in self.marks[from..=to].iter_mut().enumerate() {
            let other = if touch.writes() {
                mark.write(touch.strong(), who, tick, releases)
            } else {
                mark.read(touch.strong(), who, releases)
            };
            if let (Some(other), None) = (other, found) {
                found = Some((((from + at) << self.shift).max(offset), other));
            }
        }
        found
    }
}

impl Mark {
    #[inline(always)]
    fn read(&mut self, strong: bool, who: &Who, releases: Option<&[u32]>) -> Option<OtherAccess> {
        let me = 1 << who.warp;
        let epoch = who.seen[who.warp as usize];
        let other = self.after_write(strong, who, releases);
        if self.reader_block == who.block && self.readers == me && self.reader_epoch == epoch && !self.strong_readers {
            return other;
        }
        if self.reader_block != who.block {
            self.more_readers = self.reader_block >= who.first && (self.readers != 0 || self.more_readers);
            (self.reader_block, self.readers) = (who.block, 0);
        }
        let before = self.readers & !me;
        let ordered = crate::registers::lanes(before).all(|warp| who.seen[warp] >= self.reader_epoch);
        if self.readers == 0 || ordered {
            (self.readers, self.reader_epoch, self.strong_readers) = (me, epoch, strong);
        } else {
            self.readers |= me;
            // Epochs of warps differ only with barriers for some of them; the least one misses a race then, but
            // never invents one.
            self.reader_epoch = self.reader_epoch.min(epoch);
            self.strong_readers &= strong;
        }
        other
    }

    #[inline(always)]
    fn write(&mut self, strong: bool, who: &Who, tick: u32, releases: Option<&[u32]>) -> Option<OtherAccess> {
        let mut other = self.after_write(strong, who, releases);
        if self.writer_block == who.block && self.writer & WARP == who.warp + 1 && self.tick == tick && !strong {
            // Two lanes of one instruction.
            other = other.or(Some(OtherAccess { write: true, warp: Some(who.warp), same_block: true }));
        }
        if self.readers != 0 && !(strong && self.strong_readers) {
            if self.reader_block == who.block {
                for warp in crate::registers::lanes(self.readers & !(1 << who.warp)) {
                    if who.seen[warp] < self.reader_epoch {
                        other = Some(OtherAccess { write: false, warp: Some(warp as u32), same_block: true });
                    }
                }
            }
            let foreign =
                if self.reader_block == who.block { self.more_readers } else { self.reader_block >= who.first };
            if let Some(releases) = releases
                && foreign
                && !(who.acquired
                    && (self.reader_block == who.block || release_of(releases, self.reader_block, who) > 0))
            {
                other = other.or(Some(OtherAccess { write: false, warp: None, same_block: false }));
            }
        }
        self.writer_block = who.block;
        self.writer = who.warp + 1 | if strong { STRONG } else { 0 } | who.seen[who.warp as usize] << EPOCH;
        self.tick = tick;
        // Reads before this write are ordered before whatever this write is ordered before.
        self.readers = 0;
        self.more_readers = false;
        other
    }

    /// Whether the last write races with an access now.
    #[inline(always)]
    fn after_write(&self, strong: bool, who: &Who, releases: Option<&[u32]>) -> Option<OtherAccess> {
        if strong && self.writer & STRONG != 0 {
            return None;
        }
        if self.writer_block == who.block {
            let warp = self.writer & WARP;
            if warp == 0 || warp == who.warp + 1 || who.seen[(warp - 1) as usize & 31] >= self.writer >> EPOCH {
                return None;
            }
            return Some(OtherAccess { write: true, warp: Some(warp - 1), same_block: true });
        }
        let releases = releases?;
        if self.writer_block < who.first || who.acquired && release_of(releases, self.writer_block, who) > self.tick {
            return None;
        }
        Some(OtherAccess { write: true, warp: None, same_block: false })
    }
}

/// When a block of this launch last fenced before an atomic write, 0 if never.
fn release_of(releases: &[u32], block: u32, who: &Who) -> u32 {
    releases.get(block.wrapping_sub(who.first) as usize).copied().unwrap_or(0)
}

/// What orders the warps of a block.
pub(crate) struct Clocks {
    /// What every warp knows.
    seen: Vec<[u32; 32]>,
    /// What the warps that arrived at a barrier know together, and what its last use told.
    arrived: [[u32; 32]; 16],
    told: [[u32; 32]; 16],
    /// What fences followed by atomic writes told.
    published: [u32; 32],
    /// Warps that fenced and have not written atomically since, what they knew, and when.
    fenced: u32,
    fence: Vec<[u32; 32]>,
    fence_tick: u32,
}

impl Clocks {
    pub fn new(warps: u32) -> Clocks {
        Clocks {
            seen: vec![[0; 32]; warps as usize],
            arrived: [[0; 32]; 16],
            told: [[0; 32]; 16],
            published: [0; 32],
            fenced: 0,
            fence: vec![[0; 32]; warps as usize],
            fence_tick: 0,
        }
    }

    pub fn start_block(&mut self) {
        for (warp, seen) in self.seen.iter_mut().enumerate() {
            *seen = [0; 32];
            seen[warp & 31] = 1;
        }
        self.arrived = [[0; 32]; 16];
        self.told = [[0; 32]; 16];
        self.published = [0; 32];
        self.fenced = 0;
    }

    pub fn knows(&self, warp: u32) -> [u32; 32] {
        self.seen[warp as usize]
    }

    /// A warp comes to a barrier: its epoch ends.
    pub fn arrive(&mut self, barrier: u32, warp: u32) {
        join(&mut self.arrived[barrier as usize], &self.seen[warp as usize]);
        self.seen[warp as usize][warp as usize] += 1;
    }

    /// All have come.
    pub fn complete(&mut self, barrier: u32) {
        self.told[barrier as usize] = std::mem::take(&mut self.arrived[barrier as usize]);
    }

    /// A warp goes on behind a barrier.
    pub fn wake(&mut self, barrier: u32, warp: u32) {
        join(&mut self.seen[warp as usize], &self.told[barrier as usize]);
    }

    pub fn fence(&mut self, warp: u32, tick: u32) {
        self.fenced |= 1 << warp;
        self.fence[warp as usize] = self.seen[warp as usize];
        self.seen[warp as usize][warp as usize] += 1;
        self.fence_tick = tick;
    }

    /// An atomic write of a warp; answers when it fenced before, if it did.
    pub fn publish(&mut self, warp: u32) -> Option<u32> {
        if self.fenced >> warp & 1 == 0 {
            return None;
        }
        join(&mut self.published, &self.fence[warp as usize]);
        Some(self.fence_tick)
    }

    /// An atomic read of a warp.
    pub fn acquire(&mut self, warp: u32) {
        join(&mut self.seen[warp as usize], &self.published);
    }
}

fn join(into: &mut [u32; 32], from: &[u32; 32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = (*a).max(*b);
    }
}
