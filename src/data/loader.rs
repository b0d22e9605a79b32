//! Batches prepared on threads ahead of the network.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use serde::{Deserialize, Serialize};

use super::Sample;
use super::transform::Transform;
use crate::error::{Error, Result};

/// The most bytes that are made ahead.
const ROOM: usize = 4 << 30;

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadImage {
    /// The image.
    pub image: String,
    /// Why.
    pub reason: String,
}

/// Some images, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// Index of the first image in the data set.
    pub start: usize,
    /// How many images of the data set it stands for.
    pub len: usize,
    /// Those that could not be read: their indices, and why. They are not among the pixels.
    pub bad: Vec<(usize, Error)>,
    /// (crops of each good image, channels, crop, crop).
    pub pixels: Vec<f32>,
}

impl Batch {
    /// Those that could not be read, by their names; `samples` is the data set.
    pub fn bad_images<'b>(&'b self, samples: &'b [Sample]) -> impl Iterator<Item = BadImage> + 'b {
        self.bad.iter().map(|(index, error)| BadImage { image: samples[*index].id.clone(), reason: error.to_string() })
    }

    /// The indices of the images that are among the pixels.
    pub fn good(&self) -> impl Iterator<Item = usize> {
        (self.start..self.start + self.len).filter(|index| self.bad.iter().all(|(bad, _)| bad != index))
    }
}

/// Shows every sample to `consume`, `size` at a time and in order, while `threads` threads decode what comes next.
///
/// What `consume` refuses ends it; an image that cannot be read is named in its batch. Each thread is at most two batches
/// ahead, and fills the pixels of its earlier batches anew; of large batches fewer threads make 4 GiB at most.
pub fn each_batch(
    samples: &[Sample],
    transform: &Transform,
    size: usize,
    threads: usize,
    mut consume: impl FnMut(&mut Batch) -> Result<()>,
) -> Result<()> {
    let size = size.max(1);
    let make = |number: usize, pixels: Vec<f32>| {
        let start = number * size;
        prepare(&samples[start..samples.len().min(start + size)], start, transform, pixels)
    };
    ahead(samples.len().div_ceil(size), makers(threads, size * transform.bytes()), make, |mut batch, _| {
        consume(&mut batch)?;
        Ok(Some(batch.pixels))
    })
}

/// How many of the threads make batches of so many bytes: each has two and one that is filled anew.
pub(crate) fn makers(threads: usize, bytes: usize) -> usize {
    threads.min(ROOM / (3 * bytes.max(1))).max(1)
}

/// What comes behind that which is consumed.
pub(crate) struct Next<'a, T> {
    made: Option<&'a Receiver<T>>,
    taken: Option<T>,
}

impl<T> Next<'_, T> {
    /// If there is one and it is made by now.
    pub(crate) fn ready(&mut self) -> Option<&T> {
        if self.taken.is_none() {
            self.taken = self.made.and_then(|made| made.try_recv().ok());
        }
        self.taken.as_ref()
    }
}

/// Shows `consume` what `make` makes of each number below `count`, in order, while `threads` threads make what comes next.
/// `consume` gives back the pixels, which a later one is made in, or nothing to end it.
pub(crate) fn ahead<T: Send>(
    count: usize,
    threads: usize,
    make: impl Fn(usize, Vec<f32>) -> T + Sync,
    mut consume: impl FnMut(T, &mut Next<T>) -> Result<Option<Vec<f32>>>,
) -> Result<()> {
    let (threads, make) = (threads.max(1), &make);
    thread::scope(|scope| {
        // Thread t prepares batches t, t + threads, …, so taking from them in turn gives the order of the data.
        let workers: Vec<(Receiver<T>, Sender<Vec<f32>>)> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(1);
                let (used, free) = channel();
                scope.spawn(move || {
                    for number in (first..count).step_by(threads) {
                        let pixels = free.try_recv().unwrap_or_default();
                        // The receiver is gone once something failed.
                        if sender.send(make(number, pixels)).is_err() {
                            break;
                        }
                    }
                });
                (receiver, used)
            })
            .collect();
        let mut taken = None;
        for number in 0..count {
            let (batches, used) = &workers[number % threads];
            let Some(batch) = taken.take().or_else(|| batches.recv().ok()) else { continue };
            let behind = (number + 1 < count).then(|| &workers[(number + 1) % threads].0);
            let mut next = Next { made: behind, taken: None };
            let Some(pixels) = consume(batch, &mut next)? else { break };
            taken = next.taken;
            // A thread that is done takes none back.
            let _ = used.send(pixels);
        }
        Ok(())
    })
}

fn prepare(samples: &[Sample], start: usize, transform: &Transform, mut pixels: Vec<f32>) -> Batch {
    pixels.clear();
    let mut batch = Batch { start, len: samples.len(), bad: Vec::new(), pixels };
    for (index, sample) in (start..).zip(samples) {
        let before = batch.pixels.len();
        let read = sample
            .image
            .pixels()
            .and_then(|image| transform.append(&image, &mut batch.pixels).map_err(|error| error.of(&sample.id)));
        if let Err(error) = read {
            batch.pixels.truncate(before);
            batch.bad.push((index, error));
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use densenet_arch::Protocol;

    use super::*;
    use crate::data::resize::Rgb8;
    use crate::data::{Image, digits};

    fn transform() -> Transform {
        Transform::new(&Protocol::named("digits").unwrap(), 3).unwrap()
    }

    #[test]
    fn large_batches_are_made_by_fewer_threads() {
        // 256 images of 224x224: 154 MB a batch, nine times three of them.
        let imagenet = Transform::new(&Protocol::named("torch7").unwrap(), 3).unwrap();
        assert_eq!([1, 4, 64].map(|threads| makers(threads, 256 * imagenet.bytes())), [1, 4, 9]);
        assert_eq!(makers(64, 64 * transform().bytes()), 64);
        assert_eq!(makers(2, usize::MAX / 3), 1);
    }

    #[test]
    fn batches_come_in_order_whatever_the_threads() {
        let samples = digits::validation().unwrap().samples;
        let run = |size, threads| {
            let (mut starts, mut pixels) = (Vec::new(), Vec::new());
            each_batch(&samples, &transform(), size, threads, |batch| {
                starts.push((batch.start, batch.len));
                pixels.extend_from_slice(&batch.pixels);
                Ok(())
            })
            .unwrap();
            (starts, pixels)
        };
        let (starts, pixels) = run(100, 3);
        assert_eq!(starts, [(0, 100), (100, 100), (200, 100), (300, 60)]);
        assert_eq!(pixels.len(), 360 * 3 * 32 * 32);
        assert!(run(7, 1).1 == pixels && run(360, 8).1 == pixels);
    }

    #[test]
    fn what_is_asked_for_ahead_is_what_comes_next() {
        for threads in [1, 3] {
            let (mut seen, mut early) = (Vec::new(), 0);
            ahead(
                20,
                threads,
                |number, _| number,
                |number, next| {
                    seen.push(number);
                    if number % 2 == 0 {
                        while next.ready().is_none() {
                            thread::yield_now();
                        }
                        early += usize::from(next.ready().is_some_and(|next| *next == number + 1));
                    }
                    Ok(Some(Vec::new()))
                },
            )
            .unwrap();
            assert_eq!((seen, early), ((0..20).collect(), 10));
        }
    }

    #[test]
    fn a_bad_image_is_named_in_its_batch_and_an_error_of_the_consumer_ends_it() {
        let mut samples = digits::validation().unwrap().samples;
        samples[150].image = Image::Pixels(Rgb8::new(1, 1, vec![0; 3]).unwrap());
        let mut bad = Vec::new();
        let mut good = 0;
        each_batch(&samples, &transform(), 100, 2, |batch| {
            good += batch.good().count();
            assert_eq!(batch.pixels.len(), batch.good().count() * 3 * 32 * 32);
            bad.extend(batch.bad.iter().map(|(index, error)| (*index, error.to_string())));
            Ok(())
        })
        .unwrap();
        assert_eq!((good, bad.len(), bad[0].0), (359, 1, 150));
        assert!(bad[0].1.starts_with("row 1588: "));
        let stop = each_batch(&samples, &transform(), 10, 2, |_| Err(Error::Negative("stop".into())));
        assert_eq!(stop.unwrap_err().to_string(), "stop");
    }
}
