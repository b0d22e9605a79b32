//! What a caller may show while bytes move.

/// Is told of bytes as they move.
pub trait Progress {
    /// Begins a transfer; `total` in bytes where known.
    fn start(&mut self, what: &str, total: Option<u64>);
    /// So many bytes more.
    fn advance(&mut self, bytes: u64);
    /// The transfer has ended, well or not.
    fn finish(&mut self);
    /// Something that a person may want to know: a wait, a retry.
    fn note(&mut self, _text: &str) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&mut self, _what: &str, _total: Option<u64>) {}
    fn advance(&mut self, _bytes: u64) {}
    fn finish(&mut self) {}
}
