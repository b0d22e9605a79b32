//! Buffers and threads that run a plan.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use densenet_arch::{Config, Head};

use crate::Error;
use crate::forward::{Forward, Output, Scratch};
use crate::maps::{Maps, least_side, zeros};
use crate::plan::Plan;
use crate::profile::{Profile, Stage};
use crate::team::{Barrier, Place};

/// The largest side of an input that a session takes.
const MOST_SIDE: usize = 1 << 13;
/// The most images in a batch, and the most threads.
const MOST: usize = 1 << 12;

/// What a session is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Most images in a run.
    pub batch: usize,
    /// Threads that work at once, the caller's among them.
    pub threads: usize,
}

impl Shape {
    /// Refuses a size that the network cannot take, and numbers that are 0 or absurd.
    pub(crate) fn check(self, config: &Config) -> Result<(), Error> {
        let Self { height, width, batch, threads } = self;
        let least = least_side(config);
        if height.min(width) < least || height.max(width) > MOST_SIDE {
            return Err(Error::InputSize { height, width, least, most: MOST_SIDE });
        }
        for (field, value) in [("batch", batch), ("threads", threads)] {
            if !(1..=MOST).contains(&value) {
                return Err(Error::Count { field, value, most: MOST });
            }
        }
        Ok(())
    }
}

/// A plan with buffers and threads for images of one size. Dropping it ends its threads.
pub struct Session {
    shared: Arc<Shared>,
    /// The caller's own; boxed, so that a session is small to move.
    scratch: Box<Scratch>,
    workers: Vec<JoinHandle<()>>,
    /// A copy for the caller.
    outputs: Vec<f32>,
}

/// What the caller's thread and the workers share.
struct Shared {
    plan: Arc<Plan>,
    shape: Shape,
    /// For each thread; all work on the first's where they share an image.
    maps: Vec<Maps>,
    /// The batch, (batch, channels, height, width).
    input: RwLock<Vec<f32>>,
    /// What a run gives, image after image.
    outputs: Mutex<Vec<f32>>,
    /// Of the threads that are done with a profiled run.
    profile: Mutex<Profile>,
    job: Mutex<Job>,
    posted: Condvar,
    barrier: Barrier,
}

/// What there is to do.
#[derive(Debug, Default)]
struct Job {
    /// Counts the runs.
    number: usize,
    task: Task,
    quit: bool,
}

/// A run.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    images: usize,
    output: Output,
    /// Whether the threads look at their clocks.
    profiled: bool,
}

impl Session {
    /// Makes all buffers and starts all threads but the caller's; after that, nothing is allocated.
    ///
    /// # Errors
    ///
    /// A size that the network cannot take, a batch or a number of threads that is 0 or absurd, buffers that do not fit
    /// into memory, and a thread that the system does not start.
    pub fn new(plan: &Arc<Plan>, shape: Shape) -> Result<Self, Error> {
        shape.check(&plan.config)?;
        let Shape { height, width, batch, threads } = shape;
        let image = plan.config.in_channels * height * width;
        // Each thread that gets whole images has maps of its own; the first's are also for those that all share.
        let (own, shared) = (batch / threads, batch.min(threads - 1));
        let maps = (0..if own == 0 { 1 } else { threads }).map(|thread| {
            let images = if thread == 0 { own.max(shared) } else { own };
            Maps::new(plan, (height, width), images)
        });
        let shared = Arc::new(Shared {
            plan: Arc::clone(plan),
            shape,
            maps: maps.collect::<Result<_, _>>()?,
            input: RwLock::new(zeros(batch * image)?),
            outputs: Mutex::new(zeros(batch * plan.config.num_classes)?),
            profile: Mutex::new(Profile::new(plan.blocks.len())),
            job: Mutex::default(),
            posted: Condvar::new(),
            barrier: Barrier::new(threads),
        });
        let outputs = zeros(batch * plan.config.num_classes)?;
        // Made first, so that the workers of an incomplete team are sent home.
        let scratch = Box::new(Scratch::new(plan, &shared.maps[0]));
        let mut session = Self { shared, scratch, workers: Vec::new(), outputs };
        for thread in 1..threads {
            let shared = Arc::clone(&session.shared);
            let worker = std::thread::Builder::new().name(format!("densenet-{thread}"));
            session.workers.push(worker.spawn(move || shared.serve(thread))?);
        }
        Ok(session)
    }

    /// Runs images, (n, channels, height, width) for any n up to the planned batch, normalised as the weights'
    /// protocol says. Gives (n, classes): logits, or what the network's head makes of them.
    ///
    /// An image's output is the same, bit for bit, whatever the batch, its place in it and the number of threads.
    ///
    /// # Errors
    ///
    /// An input that is not 1 to `batch` whole images; a thread that panicked, which ends the session: later runs give the
    /// same error.
    pub fn run(&mut self, images: &[f32]) -> Result<&[f32], Error> {
        self.logits(images, false)
    }

    /// Runs images as [`run`](Self::run) does, to the same bits, and says where the time went.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn profile(&mut self, images: &[f32]) -> Result<(&[f32], Profile), Error> {
        let shared = Arc::clone(&self.shared);
        shared.profile().clear();
        let outputs = self.logits(images, true)?;
        let profile = shared.profile().clone();
        Ok((outputs, profile))
    }

    fn logits(&mut self, images: &[f32], profiled: bool) -> Result<&[f32], Error> {
        let Config { head, num_classes, .. } = self.shared.plan.config;
        let outputs = self.outputs(Output::Logits, images, profiled)?;
        match head {
            Head::Logits => {}
            Head::LogSoftmax => outputs.chunks_exact_mut(num_classes).for_each(log_softmax),
            Head::Softmax => outputs.chunks_exact_mut(num_classes).for_each(softmax),
        }
        Ok(outputs)
    }

    /// Runs images as [`run`](Self::run) does, up to what the classifier reads: the mean of each feature, (n, channels).
    ///
    /// The first call makes room for them, later ones allocate nothing.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run), and means that do not fit into memory.
    pub fn pre_logits(&mut self, images: &[f32]) -> Result<&[f32], Error> {
        Ok(self.outputs(Output::PreLogits, images, false)?)
    }

    /// Runs images as [`run`](Self::run) does, up to the last map after `norm5` and ReLU: (n, channels, height, width) of
    /// [`features_shape`](Self::features_shape), the ReLU of what torchvision's `features` gives and timm's
    /// `forward_features`.
    ///
    /// The first call makes room for them, later ones allocate nothing.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run), and maps that do not fit into memory.
    pub fn features(&mut self, images: &[f32]) -> Result<&[f32], Error> {
        Ok(self.outputs(Output::Features, images, false)?)
    }

    /// Channels, height and width of an image's [`features`](Self::features).
    pub fn features_shape(&self) -> [usize; 3] {
        self.shared.features_shape()
    }

    fn outputs(&mut self, output: Output, images: &[f32], profiled: bool) -> Result<&mut [f32], Error> {
        let Shared { plan, shape, .. } = &*self.shared;
        let image = plan.config.in_channels * shape.height * shape.width;
        let count = images.len() / image;
        if !(1..=shape.batch).contains(&count) || count * image != images.len() {
            return Err(Error::InputLength { found: images.len(), image, batch: shape.batch });
        }
        if self.shared.barrier.is_poisoned() {
            return Err(Error::Panicked);
        }
        let size = self.shared.size(output);
        if self.outputs.len() < shape.batch * size {
            self.outputs = zeros(shape.batch * size)?;
        }
        if self.shared.outputs().len() < shape.batch * size {
            *self.shared.outputs() = zeros(shape.batch * size)?;
        }
        self.shared.input.write().unwrap_or_else(PoisonError::into_inner)[..images.len()].copy_from_slice(images);
        let task = Task { images: count, output, profiled };
        {
            let mut job = self.shared.job();
            job.number = job.number.wrapping_add(1);
            job.task = task;
        }
        self.shared.posted.notify_all();
        self.shared.work(0, task, &mut self.scratch)?;

        let outputs = &mut self.outputs[..count * size];
        outputs.copy_from_slice(&self.shared.outputs()[..count * size]);
        Ok(outputs)
    }

    /// The plan that it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.shared.plan
    }

    /// What it is planned for.
    pub fn shape(&self) -> Shape {
        self.shared.shape
    }
}

impl fmt::Debug for Session {
    // Without the buffers.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Shared { plan, shape, .. } = &*self.shared;
        formatter.debug_struct("Session").field("plan", plan).field("shape", shape).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.job().quit = true;
        self.shared.posted.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so already.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn job(&self) -> MutexGuard<'_, Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outputs(&self) -> MutexGuard<'_, Vec<f32>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn profile(&self) -> MutexGuard<'_, Profile> {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn features_shape(&self) -> [usize; 3] {
        let (height, width) = self.maps[0].blocks.last().map_or((0, 0), |last| (last.all.height, last.all.width));
        [self.plan.classifier.input.channels(), height, width]
    }

    /// Values of an image's output.
    fn size(&self, output: Output) -> usize {
        match output {
            Output::Logits => self.plan.config.num_classes,
            Output::PreLogits => self.plan.classifier.input.channels(),
            Output::Features => self.features_shape().into_iter().product(),
        }
    }

    /// A worker's life.
    fn serve(&self, thread: usize) {
        let mut scratch = Scratch::new(&self.plan, &self.maps[0]);
        let mut done = 0;
        loop {
            let task = {
                let mut job = self.job();
                while job.number == done && !job.quit {
                    job = self.posted.wait(job).unwrap_or_else(PoisonError::into_inner);
                }
                if job.quit {
                    return;
                }
                done = job.number;
                job.task
            };
            if self.work(thread, task, &mut scratch).is_err() {
                return;
            }
        }
    }

    /// A thread's part of a run. A panic sends all threads home, as nobody may wait for one that does not come.
    fn work(&self, thread: usize, task: Task, scratch: &mut Scratch) -> Result<(), Error> {
        // What a panic leaves behind half written is not read again.
        catch_unwind(AssertUnwindSafe(|| self.images(thread, task, scratch))).map_err(|_| {
            self.barrier.poison();
            Error::Panicked
        })
    }

    /// Whole images while there is one for each thread, then a share of those that are left.
    fn images(&self, thread: usize, Task { images, output, profiled }: Task, scratch: &mut Scratch) {
        let threads = self.shape.threads;
        let own = images / threads;
        scratch.clock.start(profiled);
        if own > 0 {
            let place = Place { index: 0, barrier: &Barrier::new(1) };
            self.some(thread * own..(thread + 1) * own, output, &self.maps[thread], place, scratch);
        }
        self.barrier.wait();
        scratch.clock.lap(Stage::Waiting);
        let place = Place { index: thread, barrier: &self.barrier };
        self.some(threads * own..images, output, &self.maps[0], place, scratch);
        if let Some(times) = scratch.clock.times() {
            *self.profile() += times;
        }
        self.barrier.wait();
    }

    /// Runs images, as many at a time as the maps have room for.
    fn some(&self, images: Range<usize>, output: Output, maps: &Maps, place: Place, scratch: &mut Scratch) {
        let (size, output_size) = (maps.input.size(), self.size(output));
        let input = self.input.read().unwrap_or_else(PoisonError::into_inner);
        for first in images.clone().step_by(maps.images()) {
            let some = &input[first * size..images.end.min(first + maps.images()) * size];
            Forward { plan: &self.plan, maps, scratch, place }.run(some, output, |image, put| {
                put(&mut self.outputs()[(first + image) * output_size..][..output_size]);
            });
        }
    }
}

/// The softmax, in place.
fn softmax(logits: &mut [f32]) {
    let shift = log_sum(logits);
    for logit in logits {
        *logit = (f64::from(*logit) - shift).exp() as f32;
    }
}

/// The logarithm of the softmax, in place.
fn log_softmax(logits: &mut [f32]) {
    let shift = log_sum(logits);
    for logit in logits {
        *logit = (f64::from(*logit) - shift) as f32;
    }
}

/// The logarithm of the sum of exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// A plan whose classifier lacks the weights of a group of outputs, so that the thread that computes it panics.
    fn broken(group: usize) -> Arc<Plan> {
        let config = Config::imagenet(&[1, 1], 4, 8).with_classes(96);
        let params = config.params();
        let weights = |name: &str| {
            let param = params.iter().find(|param| param.name == name)?;
            Some((param.shape.clone(), vec![0.5; param.elements()]))
        };
        let mut plan = Plan::new(&config, weights, &Options::default()).unwrap();
        plan.classifier.groups[group].weights.clear();
        Arc::new(plan)
    }

    #[test]
    fn a_thread_that_panics_ends_the_session_and_nobody_waits() {
        // The first group is the caller's, another a worker's.
        for group in [0, 2] {
            let plan = broken(group);
            for (batch, threads) in [(1, 1), (1, 3), (3, 3), (4, 3)] {
                let shape = Shape { height: 32, width: 32, batch, threads };
                let mut session = Session::new(&plan, shape).unwrap();
                let images = vec![0.5; batch * 3 * 32 * 32];
                for _ in 0..2 {
                    assert!(matches!(session.run(&images), Err(Error::Panicked)), "{group} {batch} {threads}");
                }
            }
        }
    }

    #[test]
    fn log_softmax_is_a_logarithm_of_shares() {
        let mut logits = [1000.0, 1000.0, f32::NEG_INFINITY];
        log_softmax(&mut logits);
        assert_eq!(logits, [-std::f32::consts::LN_2, -std::f32::consts::LN_2, f32::NEG_INFINITY]);
        let mut logits = [f32::NAN, 0.0];
        log_softmax(&mut logits);
        assert!(logits.iter().all(|logit| logit.is_nan()));
        let mut logits = [1000.0, 1000.0, f32::NEG_INFINITY];
        softmax(&mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
    }
}
