//! Buffers and threads that run a plan.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use densenet_arch::{Config, Head};

use crate::Error;
use crate::forward::{Forward, Scratch};
use crate::maps::{Maps, least_side, zeros};
use crate::plan::Plan;
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
    output: Vec<f32>,
}

/// What the caller's thread and the workers share.
struct Shared {
    plan: Arc<Plan>,
    shape: Shape,
    /// For each thread; all work on the first's where they share an image.
    maps: Vec<Maps>,
    /// The batch, (batch, channels, height, width).
    input: RwLock<Vec<f32>>,
    /// (batch, classes)
    logits: Mutex<Vec<f32>>,
    job: Mutex<Job>,
    posted: Condvar,
    barrier: Barrier,
}

/// What there is to do.
#[derive(Debug, Default)]
struct Job {
    /// Counts the runs.
    number: usize,
    images: usize,
    quit: bool,
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
        let maps = (0..threads).map(|thread| Maps::new(plan, (height, width), thread == 0 && threads > 1));
        let shared = Arc::new(Shared {
            plan: Arc::clone(plan),
            shape,
            maps: maps.collect::<Result<_, _>>()?,
            input: RwLock::new(zeros(batch * image)?),
            logits: Mutex::new(zeros(batch * plan.config.num_classes)?),
            job: Mutex::default(),
            posted: Condvar::new(),
            barrier: Barrier::new(threads),
        });
        let output = zeros(batch * plan.config.num_classes)?;
        // Made first, so that the workers of an incomplete team are sent home.
        let scratch = Box::new(Scratch::new(plan, &shared.maps[0]));
        let mut session = Self { shared, scratch, workers: Vec::new(), output };
        for thread in 1..threads {
            let shared = Arc::clone(&session.shared);
            let worker = std::thread::Builder::new().name(format!("densenet-{thread}"));
            session.workers.push(worker.spawn(move || shared.serve(thread))?);
        }
        Ok(session)
    }

    /// Runs images, (n, channels, height, width) for any n up to the planned batch, normalised as the weights'
    /// protocol says. Gives (n, classes): logits, or their log-softmax where the network ends in one.
    ///
    /// An image's output is the same, bit for bit, whatever the batch, its place in it and the number of threads.
    ///
    /// # Errors
    ///
    /// An input that is not 1 to `batch` whole images.
    pub fn run(&mut self, images: &[f32]) -> Result<&[f32], Error> {
        let Shared { plan, shape, .. } = &*self.shared;
        let image = plan.config.in_channels * shape.height * shape.width;
        let count = images.len() / image;
        if !(1..=shape.batch).contains(&count) || count * image != images.len() {
            return Err(Error::InputLength { found: images.len(), image, batch: shape.batch });
        }
        self.shared.input.write().unwrap_or_else(PoisonError::into_inner)[..images.len()].copy_from_slice(images);
        {
            let mut job = self.shared.job();
            job.number = job.number.wrapping_add(1);
            job.images = count;
        }
        self.shared.posted.notify_all();
        self.shared.work(0, count, &mut self.scratch);

        let classes = plan.config.num_classes;
        let output = &mut self.output[..count * classes];
        output.copy_from_slice(&self.shared.logits()[..count * classes]);
        if plan.config.head == Head::LogSoftmax {
            output.chunks_exact_mut(classes).for_each(log_softmax);
        }
        Ok(output)
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

    fn logits(&self) -> MutexGuard<'_, Vec<f32>> {
        self.logits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life.
    fn serve(&self, thread: usize) {
        let mut scratch = Scratch::new(&self.plan, &self.maps[thread]);
        let mut done = 0;
        loop {
            let images = {
                let mut job = self.job();
                while job.number == done && !job.quit {
                    job = self.posted.wait(job).unwrap_or_else(PoisonError::into_inner);
                }
                if job.quit {
                    return;
                }
                done = job.number;
                job.images
            };
            self.work(thread, images, &mut scratch);
        }
    }

    /// A thread's part of a run: whole images while there is one for each thread, then bands of those that are left.
    fn work(&self, thread: usize, images: usize, scratch: &mut Scratch) {
        let threads = self.shape.threads;
        let whole = images - images % threads;
        let alone = Barrier::new(1);
        for image in (thread..whole).step_by(threads) {
            self.image(image, &self.maps[thread], Place { index: 0, barrier: &alone }, scratch);
        }
        self.barrier.wait();
        for image in whole..images {
            self.image(image, &self.maps[0], Place { index: thread, barrier: &self.barrier }, scratch);
        }
        self.barrier.wait();
    }

    fn image(&self, index: usize, maps: &Maps, place: Place, scratch: &mut Scratch) {
        let Shape { height, width, .. } = self.shape;
        let size = self.plan.config.in_channels * height * width;
        let input = self.input.read().unwrap_or_else(PoisonError::into_inner);
        let image = &input[index * size..][..size];
        let first = index * self.plan.config.num_classes;
        Forward { plan: &self.plan, maps, scratch, place }.run(image, (height, width), |class, outputs| {
            self.logits()[first + class..][..outputs.len()].copy_from_slice(outputs);
        });
    }
}

/// The logarithm of the softmax, in place.
fn log_softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    let shift = f64::from(most) + sum.ln();
    for logit in logits {
        *logit = (f64::from(*logit) - shift) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_is_a_logarithm_of_shares() {
        let mut logits = [1000.0, 1000.0, f32::NEG_INFINITY];
        log_softmax(&mut logits);
        assert_eq!(logits, [-std::f32::consts::LN_2, -std::f32::consts::LN_2, f32::NEG_INFINITY]);
        let mut logits = [f32::NAN, 0.0];
        log_softmax(&mut logits);
        assert!(logits.iter().all(|logit| logit.is_nan()));
    }
}
