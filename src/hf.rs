//! The folder that timm loads by `timm.create_model("local-dir:FOLDER", pretrained=True)`, and that the Hugging Face Hub
//! holds: `model.safetensors` and a `config.json` with the preprocessing (timm 1.0, models/_hub.py).

use std::io::Write;
use std::path::{Path, PathBuf};

use densenet_arch::{Channels, Config, Fit, Head, Interpolation, Protocol, Range, Resize, Rounding, Stem, networks};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files;

/// The name of the weights in such a folder.
pub const WEIGHTS: &str = "model.safetensors";
/// The name of the description.
pub const CONFIG: &str = "config.json";
/// The name of the description for people, the Hub's model card.
pub const CARD: &str = "README.md";

/// A folder that was opened.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The weights.
    pub weights: PathBuf,
    /// The preprocessing, if the description has it.
    pub protocol: Option<Protocol>,
    /// The names of the classes, if the description has them.
    pub labels: Option<Vec<String>>,
}

/// Whether a folder holds such weights.
pub fn is_folder(path: &Path) -> bool {
    path.join(WEIGHTS).is_file()
}

/// The first file that writing such a folder would overwrite.
pub fn taken(folder: &Path) -> Option<PathBuf> {
    [WEIGHTS, CONFIG, CARD].map(|name| folder.join(name)).into_iter().find(|path| path.exists())
}

/// Writes such a folder, and returns the weights' sha256. `weights` writes them and says it, `card` is told it. The weights
/// take their place last: what is a model already has its description.
pub fn write(
    folder: &Path,
    description: &Value,
    weights: impl FnOnce(&mut dyn Write) -> Result<String>,
    card: impl FnOnce(&str) -> String,
) -> Result<String> {
    let path = folder.join(WEIGHTS);
    let mut file = files::beside(&path)?;
    let sha256 = weights(&mut file)?;
    files::write(&folder.join(CONFIG), format!("{description:#}\n").as_bytes())?;
    files::write(&folder.join(CARD), card(&sha256).as_bytes())?;
    files::place(file, &path)?;
    Ok(sha256)
}

/// What torchvision and timm get wrong of a network, which take an eps of 1e-5, poolings that round down and a head of
/// logits, whatever the file says.
pub fn network_differences(config: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    if config.eps != Config::EPS {
        differences.push(format!("they add {:e} to the variances where it is {:e}", Config::EPS, config.eps));
    }
    if config.pooling == Rounding::Ceil {
        differences.push("their poolings round down where its own round up".to_owned());
    }
    match config.head {
        Head::Logits => {}
        Head::LogSoftmax => differences.push("they end in logits where it ends in their log-softmax".to_owned()),
        Head::Softmax => differences.push("they end in logits where it ends in their softmax".to_owned()),
    }
    differences
}

/// What `config.json` cannot say of a preprocessing: timm takes red first, and Pillow's resizing of the short side.
pub fn protocol_differences(protocol: &Protocol) -> Vec<String> {
    let mut differences = Vec::new();
    if protocol.channels == Channels::Bgr {
        differences.push("the network takes blue first; reverse timm's channels before its mean and std apply".into());
    }
    let Some(Resize { fit, interpolation, .. }) = protocol.resize else { return differences };
    if matches!(interpolation, Interpolation::Torch7Bicubic | Interpolation::OpencvBilinear) {
        differences.push("images are resized without antialiasing, which Pillow always does".into());
    }
    if fit == Fit::Stretch {
        differences.push("both sides are resized, where timm keeps the image's form".into());
    }
    differences
}

impl Folder {
    /// Reads the description; the weights are a checkpoint like any other.
    pub fn open(path: &Path) -> Result<Self> {
        let weights = path.join(WEIGHTS);
        let description = path.join(CONFIG);
        let text = match std::fs::read_to_string(&description) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { weights, protocol: None, labels: None });
            }
            Err(error) => return Err(Error::io("read", &description)(error)),
        };
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| Error::data(&description, format!("it is no JSON: {error}")))?;
        let names = json.get("label_names").and_then(Value::as_array);
        let labels =
            names.map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        Ok(Self { weights, protocol: protocol(&json), labels: labels.flatten() })
    }
}

/// timm's preprocessing as a protocol, where it is complete.
fn protocol(json: &Value) -> Option<Protocol> {
    let cfg = json.get("pretrained_cfg").unwrap_or(json);
    let triple = |name: &str| {
        let values = cfg.get(name)?.as_array()?.iter().map(|value| value.as_f64().map(|value| value as f32));
        match values.collect::<Option<Vec<_>>>()?[..] {
            [grey] => Some([grey; 3]),
            [red, green, blue] => Some([red, green, blue]),
            _ => None,
        }
    };
    let crop = usize::try_from(cfg.get("input_size")?.as_array()?.get(1)?.as_u64()?).ok()?;
    let interpolation = match cfg.get("interpolation")?.as_str()? {
        "bilinear" => Interpolation::PilBilinear,
        "bicubic" => Interpolation::PilBicubic,
        _ => return None,
    };
    let size = (crop as f64 / cfg.get("crop_pct")?.as_f64()?).floor() as usize;
    let named = [Interpolation::PilBilinear, Interpolation::PilBicubic].map(|own| own == interpolation);
    let name = if named == [true, false] { "pil-bilinear" } else { "pil-bicubic" };
    Some(Protocol {
        name: if (size, crop) == (256, 224) { name.to_owned() } else { format!("{name}-{size}-{crop}") },
        resize: Some(Resize { size, fit: Fit::ShortSide, interpolation }),
        crop,
        channels: Channels::Rgb,
        range: Range::Unit,
        mean: triple("mean")?,
        std: triple("std")?,
    })
}

/// Whether timm has such a network: any blocks and growth rate behind its stem of twice the growth rate.
pub fn timm_builds(config: &Config) -> bool {
    config.stem == Stem::Imagenet
        && config.num_init_features == 2 * config.growth_rate
        && config.compression == 0.5
        && config.bn_size.is_some()
}

/// The description of a network for timm. Networks that timm cannot build, as those for CIFAR, get their own name.
pub fn config_json(config: &Config, protocol: &Protocol, labels: Option<&[String]>) -> Value {
    let stock = ["densenet-121", "densenet-161", "densenet-169", "densenet-201"]
        .into_iter()
        .find(|name| networks::find(name).is_some_and(|network| network.config.same_network(config)));
    let (architecture, mut model_args) = match stock {
        Some(name) => (name.replace('-', ""), json!({})),
        None if timm_builds(config) => {
            let args = json!({
                "block_config": config.block_config,
                "growth_rate": config.growth_rate,
                "bn_size": config.bn_size,
            });
            ("densenet121".to_owned(), args)
        }
        None => (config.name(), json!({})),
    };
    if config.in_channels != 3 {
        model_args["in_chans"] = config.in_channels.into();
    }
    let scale = match protocol.range {
        Range::Unit => 1.0,
        Range::Byte => 255.0,
    };
    let unit = |values: [f32; 3]| -> Vec<f64> {
        values.iter().take(config.in_channels).map(|value| rounded(f64::from(*value) / scale)).collect()
    };
    let (interpolation, crop_pct) = match protocol.resize {
        Some(Resize { size, interpolation, .. }) => {
            let name = match interpolation {
                Interpolation::PilBicubic | Interpolation::Torch7Bicubic => "bicubic",
                Interpolation::PilBilinear | Interpolation::OpencvBilinear => "bilinear",
            };
            (name, rounded(protocol.crop as f64 / size as f64))
        }
        None => ("bilinear", 1.0),
    };
    let mut json = json!({
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.num_features(),
        "pretrained_cfg": {
            "tag": "densenet_zoo",
            "custom_load": false,
            "input_size": [config.in_channels, protocol.crop, protocol.crop],
            "fixed_input_size": false,
            "interpolation": interpolation,
            "crop_pct": crop_pct,
            "crop_mode": "center",
            "mean": unit(protocol.mean),
            "std": unit(protocol.std),
            "num_classes": config.num_classes,
            "pool_size": [protocol.crop / 32, protocol.crop / 32],
            "first_conv": "features.conv0",
            "classifier": "classifier",
        },
    });
    if let Some(object) = json.as_object_mut() {
        if model_args.as_object().is_some_and(|args| !args.is_empty()) {
            object.insert("model_args".into(), model_args);
        }
        if let Some(labels) = labels {
            object.insert("label_names".into(), labels.into());
        }
    }
    json
}

/// Seven digits: what an f32 holds, without the tail that its binary form shows.
fn rounded(value: f64) -> f64 {
    (value * 1e7).round() / 1e7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_networks_have_timm_s_names_and_others_its_arguments() {
        let protocol = Protocol::named("pil-bicubic").unwrap();
        let json = config_json(&networks::find("densenet-121").unwrap().config, &protocol, None);
        assert_eq!(json["architecture"], "densenet121");
        assert_eq!(json["num_features"], 1024);
        assert_eq!(json["pretrained_cfg"]["mean"], json!([0.485, 0.456, 0.406]));
        assert_eq!(json["pretrained_cfg"]["crop_pct"], 0.875);
        assert_eq!(json["pretrained_cfg"]["interpolation"], "bicubic");
        assert!(json.get("model_args").is_none());
        let json = config_json(&networks::find("densenet-264").unwrap().config, &protocol, None);
        assert_eq!(json["architecture"], "densenet121");
        assert_eq!(json["model_args"]["block_config"], json!([6, 12, 64, 48]));
        let json = config_json(&Config::cifar_bc(100, 12).unwrap(), &Protocol::named("cifar10").unwrap(), None);
        assert_eq!(json["architecture"], "densenet-bc-100-12");
        assert_eq!(json["pretrained_cfg"]["mean"][0], 0.491_372_6);
        let grey = Config { in_channels: 1, ..networks::find("densenet-121").unwrap().config.clone() };
        let json = config_json(&grey, &protocol, None);
        assert_eq!((&json["architecture"], &json["model_args"]), (&json!("densenet121"), &json!({"in_chans": 1})));
        let cfg = &json["pretrained_cfg"];
        assert_eq!(
            (&cfg["input_size"], &cfg["mean"], &cfg["std"]),
            (&json!([1, 224, 224]), &json!([0.485]), &json!([0.229]))
        );
        assert_eq!(super::protocol(&json).map(|protocol| protocol.std), Some([0.229; 3]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let protocol = Protocol::named("pil-bilinear").unwrap();
        let labels = ["normal".to_owned(), "pneumonia".to_owned()];
        let config = networks::find("densenet-169").unwrap().config.clone().with_classes(2);
        let text = config_json(&config, &protocol, Some(&labels)).to_string();
        std::fs::write(folder.path().join(CONFIG), text).unwrap();
        let read = Folder::open(folder.path()).unwrap();
        assert_eq!(read.protocol, Some(protocol));
        assert_eq!(read.labels, Some(labels.to_vec()));
        std::fs::write(folder.path().join(CONFIG), "{").unwrap();
        assert!(Folder::open(folder.path()).unwrap_err().to_string().contains("it is no JSON"));
    }
}
