//! The fuzz targets' seeds, so that they stay readable and what was found with them stays found.

use std::path::Path;

use crate::harness::{alone, exercise, tensors};

#[test]
fn seeds_of_the_fuzz_targets() {
    let _alone = alone();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("converters/fuzz/corpus");
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is listed").path()).collect();
        paths.sort();
        paths
    };
    let targets = list(&corpus);
    let names: Vec<_> = targets.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(
        names,
        [
            "caffe",
            "hdf5",
            "legacy",
            "mxnet",
            "npz",
            "onnx",
            "pickle",
            "safetensors",
            "t7_ascii",
            "t7_binary",
            "tar",
            "zip"
        ]
    );
    let mut size = 0;
    for target in &targets {
        let (mut read, seeds) = (0, list(target));
        for seed in &seeds {
            let (name, bytes) = (seed.display().to_string(), std::fs::read(seed).expect("it is readable"));
            exercise(&name, &bytes);
            read += usize::from(tensors(&name, &bytes).is_ok());
            size += bytes.len();
        }
        assert!(read > 0, "{}: none of {} seeds holds a tensor", target.display(), seeds.len());
    }
    assert!(size <= 300_000, "the seeds have {size} bytes");
}
