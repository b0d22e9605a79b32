//! Whole commands through the binary, and the library against what other programs computed.

#[path = "cli/catalogue.rs"]
mod catalogue;
#[path = "convert/mod.rs"]
mod conversions;
#[path = "cli/convert.rs"]
mod convert;
#[path = "cli/demo.rs"]
mod demo;
#[path = "model/device/mod.rs"]
mod device;
#[path = "cli/device.rs"]
mod devices;
#[path = "model/engine.rs"]
mod engine;
#[path = "cli/eval.rs"]
mod eval;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/fetch.rs"]
mod fetch;
#[path = "cli/findings.rs"]
mod findings;
#[path = "cli/finetune.rs"]
mod finetune;
#[path = "cli/imagenet.rs"]
mod imagenet;
#[path = "model/mod.rs"]
mod model;
#[path = "net/mod.rs"]
mod net;
#[path = "cli/preprocess.rs"]
mod preprocess;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/resume.rs"]
mod resume;
#[path = "cli/mod.rs"]
mod run;
#[path = "cli/train.rs"]
mod train;
#[path = "model/train.rs"]
mod trainer;
