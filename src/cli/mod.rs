//! The command line: one file a verb, which parses, calls and prints.

mod bench;
mod cache;
mod catalogue;
mod changes;
mod classify;
mod convert;
mod demo;
mod eval;
mod exit;
mod explain;
mod export;
mod fetch;
mod finetune;
mod inspect;
mod output;
mod parity;
mod plot;
mod preprocess;
mod progress;
mod report;
mod run;
mod table;
mod train;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::DType;
use clap::{Args, Parser, Subcommand, ValueEnum};
use densenet_arch::Protocol;
use densenet_zoo::device::DeviceChoice;
use densenet_zoo::runner::{Backend, Convolutions, Precision, Runner};
use densenet_zoo::store::{Model, Store};
use densenet_zoo::train::Compute;
use densenet_zoo::{Error, Result, hf};

/// Fetches, verifies, converts, runs and evaluates published DenseNet weights.
#[derive(Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    /// A catalogue of your own, a TOML file or a folder of them; may be repeated. DENSENET_ZOO_PATH holds more of them,
    /// separated as in PATH.
    #[arg(long, value_name = "FILE|DIR", global = true)]
    zoo: Vec<PathBuf>,
    /// Refuse catalogues of your own that this minisign key has not signed (FILE.toml.minisig beside each): the public key
    /// itself, or a file that holds it.
    #[arg(long, value_name = "KEY|FILE", global = true)]
    require_signature: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole way of a weight file, offline: fetch, verify, convert, check and evaluate the embedded digits.
    Demo(demo::Demo),
    /// Every weight that is known.
    List(catalogue::List),
    /// All that is known of one weight.
    Info(catalogue::Info),
    /// Bring a weight into the cache: downloaded, verified, converted.
    Fetch(fetch::Fetch),
    /// Hash what is cached again, and convert it again.
    Verify(fetch::Verify),
    /// What lies in the cache: list, prune, dir.
    Cache(cache::Cache),
    /// Any checkpoint to safetensors with torchvision's names.
    Convert(convert::Convert),
    /// A model as ONNX, for other runtimes.
    Export(export::Export),
    /// What a checkpoint holds. Nothing of it is executed.
    Inspect(inspect::Inspect),
    /// The five likeliest classes of each image; of a multi-label model, every finding with its own probability.
    Classify(classify::Classify),
    /// Top-1 and top-5 error over a data set, beside the published figure; of findings, the area under each one's curve.
    Eval(eval::Eval),
    /// The published tables with what was measured beside them, from the results of eval.
    Table(table::Table),
    /// One page of all results: tables, error against size, calibration, what was taken for what.
    Report(report::Report),
    /// Where in an image the network sees a class: a class activation map over the image.
    Explain(explain::Explain),
    /// Pictures of what weights hold.
    Plot(plot::Plot),
    /// Exactly what a network sees of an image, as numbers.
    Preprocess(preprocess::Preprocess),
    /// How fast a network runs or trains here: latency, images a second, memory.
    Bench(bench::Bench),
    /// Train a network from nothing, by a published recipe; or go on with a run.
    Train(train::Train),
    /// Go on with a model's weights on other images.
    Finetune(finetune::Finetune),
    /// Compare a model's output with one that another program computed.
    Parity(parity::Parity),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON value on stdout.
    Json,
}

#[derive(Args)]
struct FormatArg {
    /// How results are printed on stdout.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// Options of every command that computes.
#[derive(Args)]
struct ComputeArgs {
    /// auto, cpu, cuda[:N] or metal[:N].
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Options of every command that runs a network from images to outputs.
#[derive(Args)]
struct RunnerArgs {
    #[command(flatten)]
    compute: ComputeArgs,
    /// What runs the network; the engine on the CPU, candle elsewhere, unless told.
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// Threads of the engine; all cores otherwise.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// In the engine, every output as the sum of its products, instead of Winograd's algorithm on large maps.
    #[arg(long)]
    exact: bool,
    /// What the engine's 1x1 convolutions multiply, or all of candle's operations; bf16 is faster and off by half a percent of the
    /// outputs' deviation.
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionArg,
}

/// The threads asked for, else one for each core.
fn threads(stated: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    stated.map_or_else(cores, usize::from)
}

/// How much of a pass training keeps.
#[derive(Args)]
struct MemoryLevel {
    /// How much of a pass is kept for the way back, by the original's numbers. 3: what the bottlenecks' 1x1s give; 4: it is
    /// computed again, which takes longer and less memory; 0 to 2: as 3. They do not change what comes out.
    #[arg(long, value_name = "0-4", alias = "optMemory", value_parser = clap::value_parser!(u8).range(0..=4))]
    memory_level: Option<u8>,
}

impl MemoryLevel {
    fn level(&self) -> u8 {
        self.memory_level.unwrap_or(3)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// Single precision.
    #[default]
    #[value(alias = "single")]
    F32,
    /// Single precision, of which an NVIDIA card multiplies 11 bits, in candle.
    Tf32,
    /// bfloat16; in the engine for processors with AVX512_BF16, in candle for GPUs.
    Bf16,
    /// Half precision, in candle.
    #[value(alias = "half")]
    F16,
}

impl PrecisionArg {
    /// The engine's.
    fn resolve(self) -> Result<Precision> {
        match self {
            Self::F32 => Ok(Precision::F32),
            Self::Bf16 => Ok(Precision::Bf16),
            Self::F16 => Err(Error::Usage("the engine has no f16; take --precision bf16 or --backend candle".into())),
            Self::Tf32 => Err(Error::Usage("the engine has no TF32; take --precision bf16 or f32".into())),
        }
    }

    /// candle's, there.
    fn dtype(self, device: DeviceChoice) -> Result<DType> {
        Ok(match self {
            Self::F32 => DType::F32,
            Self::Tf32 => {
                device.allow_tf32()?;
                DType::F32
            }
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendArg {
    /// The CPU engine.
    Engine,
    /// candle, on any device.
    Candle,
}

impl BackendArg {
    /// What computes on that device, unless told.
    fn of(device: DeviceChoice) -> Self {
        if device == DeviceChoice::Cpu { Self::Engine } else { Self::Candle }
    }
}

impl RunnerArgs {
    /// Threads of the engine.
    fn threads(&self) -> usize {
        threads(self.threads)
    }

    /// Opens the device and builds the model's network there for squares of `side` pixels; for comparisons with other
    /// programs.
    fn open_exact(&self, model: &Model, side: usize) -> Result<Runner> {
        self.open_with(model, side, Convolutions::Exact)
    }

    /// Opens the device and builds the model's network there for squares of `side` pixels.
    fn open(&self, model: &Model, side: usize) -> Result<Runner> {
        self.open_with(model, side, if self.exact { Convolutions::Exact } else { Convolutions::Fast })
    }

    fn open_with(&self, model: &Model, side: usize, convolutions: Convolutions) -> Result<Runner> {
        let (backend, device) = self.backend(convolutions)?;
        Runner::new(model, (side, side), backend, &device)
    }

    /// Opens the device; and what runs a network there.
    fn backend(&self, convolutions: Convolutions) -> Result<(Backend, candle_core::Device)> {
        let choice = self.compute.choose();
        let device = choice.open()?;
        let backend = match self.backend.unwrap_or_else(|| BackendArg::of(choice)) {
            BackendArg::Candle => Backend::Candle(self.precision.dtype(choice)?),
            BackendArg::Engine => {
                Backend::Engine { threads: self.threads(), convolutions, precision: self.precision.resolve()? }
            }
        };
        Ok((backend, device))
    }
}

impl ComputeArgs {
    /// The device asked for; says what `auto` took.
    fn choose(&self) -> DeviceChoice {
        let choice = self.device.resolve();
        if self.device == DeviceChoice::Auto {
            eprintln!("device: {choice} (auto)");
        }
        choice
    }

    /// What trains there.
    fn of_training(&self, backend: Option<BackendArg>, precision: PrecisionArg) -> Result<Compute> {
        let device = self.choose();
        match backend.unwrap_or_else(|| BackendArg::of(device)) {
            BackendArg::Candle => Ok(Compute::Candle { device, dtype: precision.dtype(device)? }),
            BackendArg::Engine if device != DeviceChoice::Cpu => {
                Err(Error::Usage("the engine runs on the CPU; take --backend candle for other devices".into()))
            }
            BackendArg::Engine if precision != PrecisionArg::F32 => {
                Err(Error::Usage("the engine trains in f32; take --backend candle for --precision".into()))
            }
            BackendArg::Engine => Ok(Compute::Engine),
        }
    }

    /// Opens the device.
    fn open(&self) -> Result<candle_core::Device> {
        self.choose().open()
    }
}

#[derive(Args)]
struct ProtocolArg {
    /// Preprocessing instead of the model's own: torch7, pil-bilinear, pil-bicubic, opencv-bilinear, stretch-256, cifar10, cifar100, svhn, digits; or a TOML file that describes one.
    #[arg(long, value_name = "NAME|FILE.toml")]
    protocol: Option<String>,
}

impl ProtocolArg {
    /// The protocol asked for, if any.
    fn stated(&self) -> Result<Option<Protocol>> {
        self.protocol.as_deref().map(protocol).transpose()
    }

    /// The protocol asked for, else the model's; says so where the model only has its network's default.
    fn of(&self, model: &Model) -> Result<Protocol> {
        if let Some(protocol) = self.stated()? {
            return Ok(protocol);
        }
        if !model.protocol_stated {
            let name = &model.protocol.name;
            eprintln!(
                "{}: the file names no protocol; taking {name}, its network's default (--protocol to change)",
                model.name
            );
        }
        Ok(model.protocol.clone())
    }
}

/// A protocol by its name, or from a TOML file that describes it.
fn protocol(stated: &str) -> Result<Protocol> {
    let path = Path::new(stated);
    if path.extension().is_none_or(|ending| ending != "toml") {
        return Ok(Protocol::from_text(stated)?);
    }
    let text = std::fs::read_to_string(path).map_err(output::io_error("read", path))?;
    let refuse = |reason: String| Error::Data { path: path.to_owned(), reason };
    let malformed =
        |error: toml::de::Error| refuse(error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let mut table: toml::Table = toml::from_str(&text).map_err(malformed)?;
    with_crop_fraction(&mut table).map_err(refuse)?;
    let described: Protocol = table.try_into().map_err(malformed)?;
    // The way through its text checks the sizes.
    Ok(Protocol::from_text(&described.to_text())?)
}

/// The checkpoint that `convert` and `inspect` are to read: a file, or the one in a folder of the Hugging Face form. Those who
/// give a name of the catalogue instead are told what takes it.
fn checkpoint(store: &Store, path: PathBuf) -> Result<PathBuf> {
    if hf::is_folder(&path) {
        return Ok(path.join(hf::WEIGHTS));
    }
    let name = path.to_string_lossy();
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && store.catalogue.find(&name).is_ok() => {
            let reason = format!("{error}; `fetch {name}` converts it");
            Err(output::io_error("read", &path)(std::io::Error::new(ErrorKind::NotFound, reason)))
        }
        _ => Ok(path),
    }
}

/// `crop_fraction`, which timm calls crop_pct, stands for the size that the image is resized to: the crop divided by it, rounded
/// down.
fn with_crop_fraction(table: &mut toml::Table) -> Result<(), String> {
    let Some(fraction) = table.remove("crop_fraction") else { return Ok(()) };
    let fraction = fraction.as_float().or_else(|| fraction.as_integer().map(|whole| whole as f64));
    let fraction = fraction.filter(|fraction| *fraction > 0.0 && *fraction <= 1.0);
    let fraction = fraction.ok_or("crop_fraction must be above 0 and at most 1")?;
    let crop = table.get("crop").and_then(toml::Value::as_integer).ok_or("crop_fraction needs crop beside it")?;
    let resize = table.get_mut("resize").and_then(toml::Value::as_table_mut);
    let resize = resize.ok_or("crop_fraction needs [resize] with its interpolation")?;
    let size = (crop as f64 / fraction).floor() as i64;
    match resize.insert("size".into(), size.into()) {
        None => Ok(()),
        Some(_) => Err("crop_fraction and resize.size say the same; leave one out".into()),
    }
}

/// Parses, runs, and turns the outcome into an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let user = catalogue::user_catalogues(&cli.zoo);
    let outcome = Store::open_signed(&user, cli.require_signature.as_deref()).and_then(|store| match cli.command {
        Command::Demo(verb) => verb.run(&store),
        Command::List(verb) => verb.run(&store),
        Command::Info(verb) => verb.run(&store),
        Command::Fetch(verb) => verb.run(&store),
        Command::Verify(verb) => verb.run(&store),
        Command::Cache(verb) => verb.run(),
        Command::Convert(verb) => verb.run(&store),
        Command::Export(verb) => verb.run(&store),
        Command::Inspect(verb) => verb.run(&store),
        Command::Classify(verb) => verb.run(&store),
        Command::Eval(verb) => verb.run(&store),
        Command::Table(verb) => verb.run(&store),
        Command::Report(verb) => verb.run(&store),
        Command::Explain(verb) => verb.run(&store),
        Command::Plot(verb) => verb.run(&store),
        Command::Preprocess(verb) => verb.run(),
        Command::Bench(verb) => verb.run(&store),
        Command::Train(verb) => verb.run(&store),
        Command::Finetune(verb) => verb.run(&store),
        Command::Parity(verb) => verb.run(&store),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of stdout has gone, as `head` does: nothing is wrong.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("densenet-zoo: {error}");
            exit::code(&error)
        }
    }
}
