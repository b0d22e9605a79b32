//! `densenet-zoo`: fetch, verify, convert, classify and evaluate DenseNet weights.
#![forbid(unsafe_code)]

/// As the standard library's, which panics where the reader of stderr has gone: nothing should end by that.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
