//! `explain`: where in an image the network sees a class.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use densenet_zoo::data::Image;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::explain::explain;
use densenet_zoo::store::{Model, Store};
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::progress::Downloads;
use super::{ComputeArgs, Format, FormatArg, ProtocolArg, output};

#[derive(Args)]
pub(super) struct Explain {
    /// A name or a file.
    model: String,
    /// The image.
    image: PathBuf,
    /// The picture, a .png.
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
    /// The class to look for, by its number or its name; the likeliest otherwise.
    #[arg(long, value_name = "N|NAME")]
    class: Option<String>,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    print: FormatArg,
}

impl Explain {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        if self.output.extension().is_none_or(|ending| ending != "png") {
            return Err(Error::Usage("-o takes a .png file".into()));
        }
        output::may_write(&self.output, self.force)?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let class = self.class.as_deref().map(|class| number(&model, class)).transpose()?;
        let protocol = self.protocol.of(&model)?;
        let transform = Transform::new(&protocol, model.config.in_channels)?;
        let mut network = model.inference(&self.compute.open()?, DType::F32)?;
        let name = self.image.display().to_string();
        let image = Image::File(self.image.clone());
        let explanation = explain(&mut network, &transform, &*image.pixels()?, &name, class)?;
        output::write_png(&self.output, &explanation.overlay())?;
        let label = model.labels.name(explanation.class);
        if self.print.format == Format::Json {
            return output::print_json(&json!({
                "image": name,
                "model": model.name,
                "protocol": protocol,
                "class": explanation.class,
                "name": label,
                "logit": explanation.logit,
                "probability": explanation.probability,
                "map": explanation.map.chunks(explanation.size.0.max(1)).collect::<Vec<_>>(),
                "output": self.output,
            }));
        }
        let (across, down) = explanation.size;
        output::print(&format!(
            "{}: where {name} shows {label} (class {}, {:.2} %, logit {:.4}), from a map of {across} x {down}",
            self.output.display(),
            explanation.class,
            100.0 * explanation.probability,
            explanation.logit,
        ))
    }
}

/// A class by its number, or by the name that the network has for it.
fn number(model: &Model, class: &str) -> Result<usize> {
    let by_name = |class: &str| {
        let named = |index: &usize| model.labels.name(*index).split(", ").any(|name| name.eq_ignore_ascii_case(class));
        model.labels.find(class).or_else(|| (0..model.labels.count()).find(named))
    };
    let number = class.parse().ok().filter(|&number: &usize| number < model.labels.count());
    number
        .or_else(|| by_name(class))
        .ok_or_else(|| Error::Usage(format!("{class:?} is none of the network's {} classes", model.labels.count())))
}
