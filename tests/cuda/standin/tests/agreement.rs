//! Programs whose events order all that touches the same memory have one result: in every order, captured or not.

mod support;

use support::*;

const BUFFERS: usize = 3;
const STREAMS: usize = 3;
const WORDS: usize = 4;

/// One piece of work: its stream, what it does, and to which buffer; a copy is from another.
#[derive(Clone, Copy, Debug)]
struct Step {
    stream: usize,
    kind: u64,
    buffer: usize,
    other: usize,
}

/// Programs without end, from xorshift numbers (Marsaglia 2003).
fn program(seed: u64, steps: usize) -> Vec<Step> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    (0..steps)
        .map(|_| Step {
            stream: draw(STREAMS as u64) as usize,
            kind: draw(4),
            buffer: draw(BUFFERS as u64) as usize,
            other: draw(BUFFERS as u64) as usize,
        })
        .collect()
}

/// What the program makes of buffers that begin with their numbers.
fn model(program: &[Step], rounds: usize) -> Vec<u32> {
    let mut buffers: Vec<u32> = (0..BUFFERS as u32).collect();
    for (index, step) in (0..rounds).flat_map(|_| program.iter().enumerate()) {
        buffers[step.buffer] = match step.kind {
            0 => buffers[step.buffer].wrapping_add(1),
            1 => buffers[step.buffer].wrapping_mul(2),
            2 => index as u32,
            _ => buffers[step.other],
        };
    }
    buffers
}

struct World<'a> {
    cuda: &'a Cuda,
    kernels: [Handle; 2],
    streams: Vec<Handle>,
    buffers: Vec<u64>,
}

impl<'a> World<'a> {
    fn new(cuda: &'a Cuda, order: &str) -> Self {
        cuda.standin_reset();
        cuda.set("STANDIN_ORDER", order);
        cuda.begin();
        let module = cuda.module();
        let kernels = [cuda.function(module, "increment"), cuda.function(module, "double")];
        let streams = (0..STREAMS).map(|_| cuda.stream()).collect();
        let buffers = (0..BUFFERS as u32).map(|value| cuda.upload(&[value; WORDS])).collect();
        Self { cuda, kernels, streams, buffers }
    }

    /// Submits the program. Work waits for the last work on each buffer that it touches; `forgetful` work does not.
    fn submit(&self, program: &[Step], forgetful: bool) {
        let cuda = self.cuda;
        let mut touched: Vec<Option<Handle>> = vec![None; BUFFERS];
        for (index, step) in program.iter().enumerate() {
            let stream = self.streams[step.stream];
            for event in [touched[step.buffer], touched[step.other]].into_iter().flatten() {
                if !forgetful {
                    good(cuda.cuStreamWaitEvent(stream, event, 0));
                }
            }
            let (buffer, other) = (self.buffers[step.buffer], self.buffers[step.other]);
            good(match step.kind {
                0 | 1 => cuda.launch(self.kernels[step.kind as usize], buffer, WORDS as u32, stream),
                2 => cuda.cuMemsetD32Async(buffer, index as u32, WORDS, stream),
                _ => cuda.cuMemcpyDtoDAsync_v2(buffer, other, 4 * WORDS, stream),
            });
            let event = cuda.event();
            good(cuda.cuEventRecord(event, stream));
            touched[step.buffer] = Some(event);
            touched[step.other] = Some(event);
        }
    }

    fn found(&self) -> Vec<u32> {
        good(self.cuda.cuCtxSynchronize());
        self.buffers.iter().map(|&buffer| self.cuda.download(buffer, WORDS)[WORDS - 1]).collect()
    }
}

const ORDERS: [&str; 6] = ["late", "queued", "reversed", "random:3", "random:4", "immediate"];

#[test]
fn ordered_programs_have_one_result() {
    let cuda = Cuda::bare();
    for seed in 0..10 {
        let program = program(seed, 30);
        for order in ORDERS {
            let world = World::new(&cuda, order);
            world.submit(&program, false);
            assert_eq!(world.found(), model(&program, 1), "seed {seed}, {order}");
        }
    }
}

#[test]
fn captured_programs_have_the_same() {
    let cuda = Cuda::bare();
    for seed in 10..20 {
        let program = program(seed, 30);
        for order in ORDERS {
            let world = World::new(&cuda, order);
            let (fork, first) = (cuda.event(), world.streams[0]);
            let graph = cuda.capture(first, || {
                good(cuda.cuEventRecord(fork, first));
                for &stream in &world.streams[1..] {
                    good(cuda.cuStreamWaitEvent(stream, fork, 0));
                }
                world.submit(&program, false);
                for &stream in &world.streams[1..] {
                    let join = cuda.event();
                    good(cuda.cuEventRecord(join, stream));
                    good(cuda.cuStreamWaitEvent(first, join, 0));
                }
            });
            let executable = cuda.instantiate(graph);
            // Two launches in different streams: the second waits for the first.
            good(cuda.cuGraphLaunch(executable, first));
            good(cuda.cuGraphLaunch(executable, world.streams[1]));
            assert_eq!(world.found(), model(&program, 2), "seed {seed}, {order}");
        }
    }
}

#[test]
fn forgotten_events_show() {
    let cuda = Cuda::bare();
    let differs = |order: &str| {
        let outcome = |seed| {
            let program = program(seed, 30);
            let world = World::new(&cuda, order);
            world.submit(&program, true);
            world.found() != model(&program, 1)
        };
        (0..10).filter(|&seed| outcome(seed)).count()
    };
    assert_eq!((differs("queued"), differs("immediate")), (0, 0), "luck");
    assert!(differs("reversed") >= 8 && differs("random:1") >= 8, "a test that runs other orders sees them");
}
