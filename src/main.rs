//! `densenet-zoo`: fetch, verify, convert, classify and evaluate DenseNet weights.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
