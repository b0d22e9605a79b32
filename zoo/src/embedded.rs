//! Files that travel inside the program.

static FILES: [(&str, &[u8]); 2] = [
    ("digits/model_best.t7", include_bytes!("../models/digits/model_best.t7")),
    ("digits/val_logits.npy", include_bytes!("../models/digits/val_logits.npy")),
];

/// The embedded file of that path below `models/`, as `digits/model_best.t7`.
pub fn embedded(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
