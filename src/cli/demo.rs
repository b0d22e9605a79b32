//! `demo`: the whole way of a weight file, offline, on what is embedded.

use clap::Args;
use densenet_registry::{Cache, FetchOptions, embedded};
use densenet_zoo::data::imagenet::LabelSet;
use densenet_zoo::data::resize::Rgb8;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::data::{Dataset, npy};
use densenet_zoo::eval::{Setup, Shard, best, evaluate, probabilities};
use densenet_zoo::parity::Difference;
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};

use super::{RunnerArgs, eval, output};

const NAME: &str = "digits.torch";
/// Between Torch7's float32 and float64 lie 6.8e-6 at outputs up to 18.3.
const TOLERANCE: f64 = 1e-5;
/// The image that is shown.
const SHOWN: usize = 7;

#[derive(Args)]
pub(super) struct Demo {
    #[command(flatten)]
    runner: RunnerArgs,
}

impl Demo {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let weight = store.catalogue.find(NAME)?;
        let cache = Cache::open_default()?;
        output::print(
            "A DenseNet-BC that Torch7 trained on scanned handwritten digits, from its .t7 to its error table.\n",
        )?;

        let options = FetchOptions { force: true, ..FetchOptions::default() };
        let record = store.fetch(weight, &cache, &options, &mut densenet_registry::Silent)?;
        output::print(&format!(
            "1 fetch    {} from the embedded zoo, {} bytes\n2 verify   sha256 {} is the expected one",
            weight.file.name,
            output::thousands(record.original.size),
            record.original.sha256
        ))?;
        let model = store.model(NAME, &mut densenet_registry::Silent)?;
        output::print(&format!(
            "3 convert  {} -> safetensors, {}, {} parameters",
            weight.format.name(),
            model.config.name(),
            output::thousands(model.config.parameter_count() as u64)
        ))?;

        let mut runner = self.runner.open_exact(&model, model.protocol.crop)?;
        let dataset = Dataset::open("digits", &LabelSet::Original)?;
        let transform = Transform::new(&model.protocol, model.config.in_channels)?;
        let classes = eval::class_map(&model, &dataset)?;
        let setup = Setup {
            dataset: &dataset,
            classes: &classes,
            transform: &transform,
            batch: 60,
            threads: 2,
            shard: Shard::WHOLE,
            keep_outputs: false,
            skip: 0,
        };
        let mut logits = Vec::new();
        let evaluation = evaluate(&mut runner, &setup, |step| {
            logits.extend_from_slice(step.outputs);
            Ok(())
        })?;

        let path = weight.reference.as_deref().unwrap_or_default();
        let missing = || Error::Usage(format!("{NAME}: its reference {path:?} is not embedded"));
        let (_, reference) = npy::read_f32(embedded(path).ok_or_else(missing)?)
            .map_err(|error| Error::Data { path: path.into(), reason: error.to_string() })?;
        let difference = Difference::between(&logits, &reference);
        output::print(&format!(
            "4 parity   {} logits against Torch7's own: largest difference {:.1e}, {:.1e} of the largest\n5 evaluate {} held-out images in {:.2} s\n",
            difference.values,
            difference.absolute,
            difference.relative(),
            evaluation.images(),
            evaluation.seconds
        ))?;

        let published =
            weight.published.first().ok_or_else(|| Error::Usage(format!("{NAME}: nothing was published")))?;
        let published_top5 = published.top5_error.unwrap_or_default();
        let wrong = |error: f64| (error * evaluation.images() as f64 / 100.0).round() as usize;
        let rows = [
            ("top-1 error", published.top1_error, evaluation.top1_error(), evaluation.top1_wrong),
            ("top-5 error", published_top5, evaluation.top5_error(), evaluation.top5_wrong),
        ];
        let rows = rows.map(|(what, theirs, ours, count)| {
            let of = evaluation.images();
            vec![
                what.to_owned(),
                format!("{theirs:.3} % ({} of {of})", wrong(theirs)),
                format!("{ours:.3} % ({count} of {of})"),
            ]
        });
        output::print(&output::table(&["", "published (Torch7)", "measured here"], &[1, 2], rows.to_vec()))?;

        let sample = &dataset.samples[SHOWN];
        let row = &logits[SHOWN * model.config.num_classes..][..model.config.num_classes];
        let top = best(row, 1, &sample.id)?[0];
        output::print(&format!(
            "\n{}\n{}: this is a {}, says the network ({:.1} %); it is a {}.",
            picture(&*sample.image.pixels()?),
            sample.id,
            model.labels.name(top),
            100.0 * probabilities(row)[top],
            sample.labels[0]
        ))?;
        let same =
            evaluation.top1_wrong == wrong(published.top1_error) && evaluation.top5_wrong == wrong(published_top5);
        if !same || !difference.within(TOLERANCE) {
            return Err(Error::Negative("the figures differ from Torch7's; this build computes wrongly here".into()));
        }
        output::print(
            "\nNext: `densenet-zoo list` shows the catalogue; `densenet-zoo fetch densenet-121` brings an ImageNet network;\n\
             `densenet-zoo convert model.t7 -o out/` converts a checkpoint of your own.",
        )
    }
}

/// Each of the 8x8 source pixels as two characters.
fn picture(image: &Rgb8) -> String {
    let side = image.width() / 8;
    let shade = |x: usize, y: usize| {
        let byte = image.data()[3 * (y * side * image.width() + x * side)];
        [' ', '.', ':', '+', '*', '#', '%', '@'][usize::from(byte) / 32]
    };
    let row = |y| (0..8).flat_map(|x| [shade(x, y); 2]).collect::<String>();
    (0..8).map(|y| format!("    {}", row(y).trim_end())).collect::<Vec<_>>().join("\n")
}
